//! A place for one test: a process of its own in a network namespace and a control group of its own, with the
//! programs attached. The programs are held by that process only, so nothing outlives it; the control group is
//! removed by the test that started it, or by the next run if that one was killed.

use std::{
    collections::BTreeMap,
    env, fs,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{CgroupAttachMode, CgroupSock, CgroupSockAddr},
};
use proxy_common::{
    Addr4, Addr6, Address, Backend, BackendFlags, Cidr, ClientRule, DatapathConfig, Frontend, FrontendFlags,
    FrontendKey, NodeConfig, Port, Proto, RangeKey, Reason, Segment, ServiceId, Tally, maps::MapType,
};
use tests::object::{self, Cell};

/// Set for the inner process: its control group.
const INSIDE: &str = "SLUICE_TEST_CGROUP";
/// Said by the inner process once the test ran to its end: that it ran at all must not depend on a name.
const RAN: &str = "the test ran inside of its room";
const PREFIX: &str = "sluice-test-socket-";

/// Every program of the socket road.
pub(crate) const PROGRAMS: [&str; 9] = [
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    "sock_release",
];

/// Where the clients of a test are, for the programs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the node's own namespace.
    Node,
    /// In a pod's.
    Pod,
}

/// The programs, their maps, and the next free slots and ids.
pub(crate) struct Room {
    object: Ebpf,
    next_slot: u32,
    next_service: u32,
}

/// Runs a test in a room of its own; clients are pods, both families are served.
pub(crate) fn run<F: FnOnce(&mut Room)>(test: F) {
    run_with(Place::Pod, |_| {}, test);
}

/// Runs a test in a room of its own, with other constants.
pub(crate) fn run_with<F: FnOnce(&mut Room)>(place: Place, change: fn(&mut DatapathConfig), test: F) {
    let Some(cgroup) = env::var_os(INSIDE) else { return start(std::any::type_name::<F>()) };
    let mut room = Room::enter(Path::new(&cgroup), place, change);
    test(&mut room);
    println!("{RAN}");
}

/// Starts this very test again, in its room, and waits for it. `closure` names the test: `socket::file::test::{{closure}}`.
fn start(closure: &str) {
    let name = closure.trim_start_matches("socket::").trim_end_matches("::{{closure}}");
    let cgroup = Cgroup::new();
    let inner = Command::new(env::current_exe().expect("a test knows its binary"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, &cgroup.0)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts again");
    let said = String::from_utf8_lossy(&inner.stdout);
    assert!(
        inner.status.success() && said.contains(RAN),
        "{name} failed inside of its room\n{said}{}",
        String::from_utf8_lossy(&inner.stderr)
    );
}

/// A control group that goes when the test does.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = cgroup_root();
        remove_orphans(&root);
        let path = root.join(format!("{PREFIX}{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        Self(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("procfs is mounted");
    let mount =
        mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|mount| mount[2] == "cgroup2");
    PathBuf::from(mount.expect("a cgroup2 file system is mounted")[1])
}

/// Control groups of runs that were killed.
fn remove_orphans(root: &Path) {
    for entry in fs::read_dir(root).expect("control groups can be listed").flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            // Fails while somebody is inside, and that is right.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

impl Room {
    fn enter(cgroup: &Path, place: Place, change: fn(&mut DatapathConfig)) -> Self {
        // SAFETY: only the namespace of this thread changes, no descriptor is shared or closed by it.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
        let mut commands = vec![
            "link set lo up".to_owned(),
            // So that what is left alone has a way to fail or to succeed, and not merely no route.
            "route add 10.96.0.0/16 dev lo".to_owned(),
            "-6 route add fd00:96::/64 dev lo".to_owned(),
        ];
        commands.extend((1..=4).map(|n| format!("-6 addr add fd00::{n}/128 dev lo nodad")));
        commands.iter().for_each(|command| ip(command));
        move_to(cgroup);
        let host_netns = match place {
            Place::Node => netns_cookie(),
            Place::Pod => u64::MAX,
        };
        let mut config =
            DatapathConfig { host_netns, ipv4: 1, ipv6: 1, mptcp: 1, ..DatapathConfig::default() };
        change(&mut config);
        let mut object = object::load(config, 4_096);
        write_node::<Addr4>(&mut object, "node4", &[]);
        write_node::<Addr6>(&mut object, "node6", &[]);
        attach(&mut object, cgroup);
        Self { object, next_slot: 0, next_service: 1 }
    }

    /// A Service at `frontend` with a new segment of these backends. Change the value and give it to
    /// [`Room::put`].
    pub(crate) fn service(&mut self, backends: &[SocketAddr]) -> Frontend {
        let service = ServiceId(self.next_service);
        self.next_service += 1;
        Frontend {
            cluster: self.segment(backends),
            service,
            generation: 1,
            flags: FrontendFlags::CLUSTER_IP,
            ..Frontend::default()
        }
    }

    /// Writes a new segment.
    pub(crate) fn segment(&mut self, backends: &[SocketAddr]) -> Segment {
        if backends.is_empty() {
            return Segment::EMPTY;
        }
        let segment = Segment { start: self.next_slot, len: u32::try_from(backends.len()).expect("few") };
        for (slot, backend) in (segment.start..).zip(backends) {
            match backend.ip() {
                IpAddr::V4(ip) => {
                    write_slot::<Addr4>(&mut self.object, "backends4", slot, ip.into(), backend.port())
                }
                IpAddr::V6(ip) => {
                    write_slot::<Addr6>(&mut self.object, "backends6", slot, ip.into(), backend.port())
                }
            }
        }
        self.next_slot += segment.len;
        segment
    }

    /// Writes a frontend.
    pub(crate) fn put(&mut self, at: SocketAddr, proto: Proto, frontend: Frontend) {
        let port = Port::new(at.port());
        match at.ip() {
            IpAddr::V4(ip) => write_frontend(
                &mut self.object,
                "frontends4",
                FrontendKey::new(Addr4::from(ip), port, proto),
                frontend,
            ),
            IpAddr::V6(ip) => write_frontend(
                &mut self.object,
                "frontends6",
                FrontendKey::new(Addr6::from(ip), port, proto),
                frontend,
            ),
        }
    }

    /// A Service for this protocol at `at`, with rules that give everybody the whole cluster.
    pub(crate) fn serve(&mut self, at: SocketAddr, proto: Proto, backends: &[SocketAddr]) -> Frontend {
        let frontend = self.service(backends);
        self.put(at, proto, frontend);
        frontend
    }

    /// Says that the address is a cluster address: its unknown ports reject.
    pub(crate) fn wildcard(&mut self, at: SocketAddr) {
        let wildcard = Frontend { flags: FrontendFlags::WILDCARD, ..Frontend::default() };
        self.put(SocketAddr::new(at.ip(), 0), Proto::ANY, wildcard);
    }

    /// Says which ranges cluster addresses are taken from.
    pub(crate) fn service_ranges(&mut self) {
        let v4 = Cidr::new(Addr4::from(std::net::Ipv4Addr::new(10, 96, 0, 0)), 16);
        let v6 = Cidr::new(Addr6::from(std::net::Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0)), 64);
        write_node(&mut self.object, "node4", &[v4]);
        write_node(&mut self.object, "node6", &[v6]);
    }

    /// Says what the node's primary addresses are.
    pub(crate) fn node_is(&mut self, v4: std::net::Ipv4Addr, v6: std::net::Ipv6Addr) {
        let (v4, v6) = (Addr4::from(v4), Addr6::from(v6));
        let node4 = NodeConfig { address: v4, ..NodeConfig::default() };
        let node6 = NodeConfig { address: v6, ..NodeConfig::default() };
        object::array(&mut self.object, "node4").set(0, Cell(node4), 0).expect("the entry exists");
        object::array(&mut self.object, "node6").set(0, Cell(node6), 0).expect("the entry exists");
    }

    /// Gives the room an address that is no loopback address.
    pub(crate) fn host_address(&self, address: &str) {
        ip(&format!("addr add {address}/32 dev lo"));
    }

    /// Says that an address is the node's.
    pub(crate) fn node_has(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(ip) => self.insert("localaddrs4", Addr4::from(ip), 1_u32),
            IpAddr::V6(ip) => self.insert("localaddrs6", Addr6::from(ip), 1_u32),
        }
    }

    /// The control group whose sockets are served.
    pub(crate) fn cgroup(&self) -> PathBuf {
        PathBuf::from(env::var_os(INSIDE).expect("only inside of a room"))
    }

    /// Lets a Service's clients with this source in.
    pub(crate) fn admit(&mut self, service: ServiceId, client: IpAddr) {
        match client {
            IpAddr::V4(ip) => {
                let key = RangeKey::exactly(service, Addr4::from(ip));
                object::admit(&mut self.object, "ranges4", "node4", key);
            }
            IpAddr::V6(ip) => {
                let key = RangeKey::exactly(service, Addr6::from(ip));
                object::admit(&mut self.object, "ranges6", "node6", key);
            }
        }
    }

    /// The counters that are not zero.
    pub(crate) fn counters(&self) -> BTreeMap<Reason, u64> {
        object::counters(&self.object)
    }

    /// What became of the new connections to a Service port.
    pub(crate) fn tally(&mut self, service: ServiceId) -> Tally {
        object::tally(&mut self.object, service).expect("there was a connection")
    }

    /// Every entry of a hash.
    pub(crate) fn entries<K: MapType, V: MapType>(&mut self, name: &str) -> Vec<(K, V)> {
        let map = object::hash::<K, V>(&mut self.object, name);
        map.iter().map(|entry| entry.expect("an entry can be read")).map(|(k, v)| (k.0, v.0)).collect()
    }

    /// Writes an entry of a hash.
    pub(crate) fn insert<K: MapType, V: MapType>(&mut self, name: &str, key: K, value: V) {
        object::hash::<K, V>(&mut self.object, name)
            .insert(Cell(key), Cell(value), 0)
            .expect("the map has room");
    }

    /// A map that is an array.
    pub(crate) fn array<V: MapType>(&mut self, name: &str) -> Array<&mut MapData, Cell<V>> {
        object::array(&mut self.object, name)
    }

    /// Number of instructions that the verifier walked through, by program.
    pub(crate) fn verified(&self) -> BTreeMap<String, u32> {
        let programs = self.object.programs().filter(|(name, _)| PROGRAMS.contains(name));
        programs
            .map(|(name, program)| {
                let info = program.info().expect("a loaded program can be asked");
                (name.to_owned(), info.verified_instruction_count().expect("Linux 5.16"))
            })
            .collect()
    }
}

/// Everybody is given the local segment, and dropped if it is empty.
pub(crate) const LOCAL_OR_DROP: [ClientRule; 3] = [ClientRule::LOCAL.with(ClientRule::DROP_IF_EMPTY); 3];

fn ip(command: &str) {
    let status = Command::new("ip").args(command.split(' ')).status().expect("iproute2 is installed");
    assert!(status.success(), "ip {command}");
}

/// Moves this process into a control group.
pub(crate) fn move_to(cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), process::id().to_string()).expect("a process can move");
}

fn attach(object: &mut Ebpf, cgroup: &Path) {
    let cgroup = fs::File::open(cgroup).expect("the control group exists");
    for name in PROGRAMS {
        let program = object.program_mut(name).unwrap_or_else(|| panic!("no program {name}"));
        if let Ok(program) = <&mut CgroupSock>::try_from(&mut *program) {
            object::load_program(name, || program.load());
            program
                .attach(&cgroup, CgroupAttachMode::Single)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            continue;
        }
        let program: &mut CgroupSockAddr = program.try_into().expect("a program of socket addresses");
        object::load_program(name, || program.load());
        // Detached when the descriptor is closed, that is with this process.
        program.attach(&cgroup, CgroupAttachMode::Single).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

fn write_slot<A: Address>(object: &mut Ebpf, map: &str, slot: u32, addr: A, port: u16)
where
    Backend<A>: MapType,
{
    let backend = Backend::new(addr, Port::new(port), BackendFlags::LOCAL);
    object::array(object, map).set(slot, Cell(backend), 0).expect("the slot exists");
}

fn write_frontend<A>(object: &mut Ebpf, map: &str, key: FrontendKey<A>, frontend: Frontend)
where
    FrontendKey<A>: MapType,
{
    object::hash(object, map).insert(Cell(key), Cell(frontend), 0).expect("the map has room");
}

fn write_node<A: Address>(object: &mut Ebpf, map: &str, service_cidrs: &[Cidr<A>])
where
    NodeConfig<A>: MapType,
{
    let mut node = NodeConfig::<A>::default();
    node.service_cidrs[..service_cidrs.len()].copy_from_slice(service_cidrs);
    object::array(object, map).set(0, Cell(node), 0).expect("the entry exists");
}

/// The cookie of this thread's network namespace.
fn netns_cookie() -> u64 {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).expect("a socket");
    let mut cookie = 0_u64;
    let mut len = libc::socklen_t::try_from(size_of::<u64>()).expect("eight");
    // SAFETY: the pointers are to a number of `len` bytes and to `len` itself, both live.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    assert_eq!(result, 0, "SO_NETNS_COOKIE: {}", std::io::Error::last_os_error());
    cookie
}
