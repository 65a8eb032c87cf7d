//! Every bound of the dataplane, each with its reason.

/// Ranges per family of each kind in [`crate::NodeConfig`]: dual-stack clusters have one or two; compared one
/// by one on new flows, so the list stays short. More than these are looked up in the `nets` map.
pub const CIDRS: usize = 4;

/// Size of each `nets` map: ranges of pods and Services beyond [`CIDRS`] of each kind.
pub const NETS: u32 = 1_024;

/// Size of each `sources` map: a few prefixes per device of the node, one veth per pod.
pub const SOURCES: u32 = 16_384;

/// Default size of each `frontends` map. One ClusterIP port is one entry plus one wildcard per address.
pub const FRONTENDS: u32 = 262_144;

/// Default number of `backends` slots: room for every segment twice, old and new side by side during a change.
pub const BACKENDS: u32 = 1_048_576;

/// Size of each `ranges` map: one entry per source range of each Service port. Some thousand load balancers with
/// a dozen of ranges each; the kernel allocates an entry when it is inserted.
pub const RANGES: u32 = 65_536;

/// Default size of each `flows` map, two entries per connection.
pub const FLOWS: u32 = 262_144;

/// Size of each `spareflows` and `sparehalf` map where no connections move: nobody asks it, and the kernel makes no empty map.
pub const SPARE_FLOWS: u32 = 1;

/// Default size of each `halfopen` map: connections being set up at one moment.
pub const HALF_OPEN: u32 = 32_768;

/// Default size of the `affinity` map.
pub const AFFINITY: u32 = 65_536;

/// Default size of each `socketpeers` map: peers of unconnected UDP sockets, two entries each.
pub const SOCKET_PEERS: u32 = 65_536;

/// Size of each `nodes` map: addresses of the cluster's nodes. Kubernetes supports 5,000 of them.
pub const NODES: u32 = 16_384;

/// Size of each `tunnels` map where packets are sent in tunnels: connections to backends of other nodes.
pub const TUNNELS: u32 = 131_072;

/// Slots of a segment of local backends among which the one is looked for that a tunnel leads to: more pods of one
/// Service port than a node runs.
pub const TUNNEL_SCAN: u32 = 4_096;

/// Default size of each `localaddrs` map.
pub const LOCAL_ADDRS: u32 = 1_024;

/// Size of the `devices` map: one veth per pod and a few uplinks; a node runs some hundred pods.
pub const DEVICES: u32 = 4_096;

/// Size of the `hooked` map: devices by the lower bits of their index. Two that share a place are seldom; then one is done
/// without.
pub const HOOKED: u32 = 4_096;

/// Areas of the `scratch` map. Few are in use; the rest lets programs take another without a new layout.
pub const SCRATCH_AREAS: u32 = 8;

/// Size of each `fragments` map: datagrams in fragments at one moment. The kernel's own reassembly takes 4 MiB of
/// fragments, some 3,000 frames.
pub const FRAGMENTS: u32 = 8_192;

/// Size of each `held` map: fragments that came too early, 2 KiB each.
pub const HELD: u32 = 512;

/// Fragments of one datagram that are held: 64 KiB in frames of 1500 bytes, all in the wrong order.
pub const HELD_EACH: u32 = 48;

/// Random source ports tried before it is asked whether a search of all ports has failed just now.
pub const SNAT_TRIES: u32 = 64;

/// Size of each `portsfull` map: backends towards which every source port was found taken a moment ago.
pub const PORTS_FULL: u32 = 1_024;

/// IPv6 extension headers walked before a packet counts as malformed; RFC 8200 names six kinds.
pub const EXTENSION_HEADERS: usize = 6;

/// Slots looked at for a datagram socket that already talks to the chosen backend by another frontend, before it has to
/// share that one: it would have to talk to as many Services to take them all.
pub const DISTINCT_SCAN: u32 = 64;

/// Slots compared when a remembered backend is not where it was: as many as the longest segment has that more than a
/// few thousand backends share (see [`MAGLEV_TABLES`]). A backend that is still there is found within some times the
/// number of backends; only one that is gone costs all of them, once per client.
pub const AFFINITY_SCAN: u32 = 131_101;

/// The most backends, and the size of a Maglev table for them: a prime above a hundred times their number, so that
/// shares differ by about a hundredth, and large enough that a change moves less than two percent of the connections
/// that it need not move. Only two, because a set that grows from one size into the next moves nearly all.
pub const MAGLEV_TABLES: [(u32, u32); 2] = [(160, 16_381), (u32::MAX, 131_101)];

/// Sizes that an operator may choose for all Maglev tables: primes.
pub const MAGLEV_SIZES: [u32; 10] = [251, 509, 1_021, 2_039, 4_093, 8_191, 16_381, 32_749, 65_521, 131_101];

/// Most slots of a segment whose backends stand in it as often as their weights say; beyond, the proportions are
/// rounded.
pub const WEIGHTED_SLOTS: u32 = 8_192;

/// Size of the `streams` map, 4 MiB: places for TCP sockets that are connected to Services. One whose place is taken carries
/// its memory itself: of ten thousand at a time one in seven, if their cookies were drawn by lot, and fewer because the
/// kernel gives them in turn.
pub const STREAMS: u32 = 65_536;

/// Size of the `turns` map: Services with a round robin that were used.
pub const TURNS: u32 = 16_384;

/// Size of the `loads` map: backends of Services that choose by the number of connections, twice, because sockets and
/// flows are counted apart.
pub const LOADS: u32 = 65_536;

/// Default size of the `tallies` map, which goes with that of the `frontends` maps: a Service port of a family has an entry in
/// one of them, and its address another. Whoever finds no room is not counted.
pub const TALLIES: u32 = FRONTENDS;

/// Size of each `policed` map: addresses of local pods under a policy.
pub const POLICED: u32 = 4_096;

/// Default size of each `peers` map: pods and nodes that a rule in use names. One entry of every address of a large
/// cluster; the kernel allocates an entry when it is inserted.
pub const PEERS: u32 = 262_144;

/// Size of each `blocks` map: distinct prefixes of ipBlocks and their exceptions.
pub const BLOCKS: u32 = 65_536;

/// Size of the `wholes` map: all prefixes of both families may be in it.
pub const WHOLES: u32 = 2 * BLOCKS;

/// Default size of the `verdicts` map: pages of what the rule sets of local pods say about classes of peers.
pub const VERDICTS: u32 = 131_072;

/// Size of each `recent` map, on each processor: pairs of a client and a server's port that open connections at one time.
/// 48 KiB a processor for IPv6, so that what is asked for stays in its cache.
pub const RECENT: u32 = 1_024;

/// Size of the `ends` map, on each processor: addresses that connect, or are connected to, at one time. 56 KiB a processor.
pub const ENDS: u32 = 1_024;

/// Words of the `mentioned` map, of 64 bits each: 128 KiB, which a processor's cache holds. Of a hundred strangers
/// three look mentioned beside a hundred thousand addresses that are.
pub const MENTIONED: u32 = 16_384;

/// Words of the `parties` map that hold bits of addresses, of 64 each: 256 KiB, of which a processor's cache needs the words of the
/// node's own pods. Beside a million addresses that had connections, four of ten others look as if they had.
pub const PARTIES: u32 = 32_768;

/// Words of the `spans` map, of 64 bits each: eight bits for each of 65,536 neighbourhoods, 64 KiB.
pub const SPANS: u32 = 8_192;

/// Size of the `groups` map, on each processor: groups of addresses that connect, or are connected to, at one time. 32 KiB a
/// processor.
pub const GROUPS: u32 = 1_024;

/// Size of the `precedents` map, on each processor: pairs of a rule set and a class that meet at one time. 24 KiB a processor.
pub const PRECEDENTS: u32 = 512;

/// Intervals of a page of verdicts: most rules name fewer ports, and a page is two cache lines.
pub const PAGE_INTERVALS: usize = 7;

/// Halvings that find one page among all that every port of three protocols on its own would fill.
pub const PAGE_STEPS: u32 = 15;

/// Size of the `denials` map: rules that denied something.
pub const DENIALS: u32 = 16_384;

/// Bytes of the `notices` ring: some thousand notices, a burst of drops between two readings.
pub const NOTICES: u32 = 262_144;
