//! The packet programs in a network namespace of the calling thread, with maps to fill and to look at, run by
//! `BPF_PROG_TEST_RUN`: what they make of a packet, and nothing is sent.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
    process::Command,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::Map,
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use proxy_common::{
    Addr4, Addr6, Address, Backend, BackendFlags, ClientRule, DatapathConfig, DeviceKind, Frontend,
    FrontendFlags, FrontendKey, NodeConfig, Proto, Reason, Segment, ServiceId, V4, V6, maps::MapType,
    node::READS_IN_ORDER, party::Parties,
};

pub use crate::named::{Named, endpoint};
use crate::named::{family_addr, range};
use crate::object::{self, Cell};
use crate::stock::Loan;

/// Codes that a program may return.
pub mod code {
    /// On through the stack.
    pub const NEXT: i32 = -1;
    /// Gone.
    pub const DROP: i32 = 2;
    /// Redirected.
    pub const REDIRECT: i32 = 7;
}

/// What a program made of a packet.
#[derive(Clone, PartialEq, Eq)]
pub struct Run {
    /// Why: the one counter that went up.
    pub reason: Reason,
    /// The code for the kernel.
    pub code: i32,
    /// The frame afterwards.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} {}", self.reason, self.code)?;
        for row in self.bytes.chunks(16) {
            writeln!(f, "  {}", row.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" "))?;
        }
        Ok(())
    }
}

/// The programs and their maps.
pub struct Dataplane {
    object: Loan,
    next_slot: [u32; 2],
    next_service: u32,
}

/// Both families, pods' packets looked up: as on a node whose pods do not use the socket road.
#[must_use]
pub fn config() -> DatapathConfig {
    DatapathConfig { ipv4: 1, ipv6: 1, pod_packets: 1, in_order: READS_IN_ORDER, ..DatapathConfig::default() }
}

/// Entries per map in tests.
const ENTRIES: u32 = 1024;

impl Dataplane {
    /// Puts the thread into a network namespace of its own, with empty maps and programs that another test of the process
    /// may have loaded. The node is 192.168.0.1 and fd00:168::1, pods are in 10.244.0.0/16 and fd00:244::/32, Services in
    /// 10.96.0.0/16 and fd00:96::/64.
    ///
    /// # Panics
    /// Without privileges.
    #[must_use]
    pub fn new(config: DatapathConfig) -> Self {
        Self::with(|| Loan::shared(config, ENTRIES))
    }

    /// The same, with programs and maps that no other test has had or gets.
    ///
    /// # Panics
    /// Without privileges.
    #[must_use]
    pub fn alone(config: DatapathConfig) -> Self {
        Self::with_entries(config, ENTRIES)
    }

    /// The same, with maps of another size.
    ///
    /// # Panics
    /// Without privileges.
    #[must_use]
    pub fn with_entries(config: DatapathConfig, entries: u32) -> Self {
        Self::with(|| Loan::own(config, entries))
    }

    fn with(object: impl FnOnce() -> Loan) -> Self {
        // SAFETY: only the namespace of this thread changes, no descriptor is shared or closed by it.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
        ip("link set lo up");
        let mut dataplane = Self { object: object(), next_slot: [1; 2], next_service: 1 };
        dataplane.trust_parties(Parties::NAMED);
        dataplane.set_node::<V4>("192.168.0.1", "10.244.0.0/16", "10.96.0.0/16");
        dataplane.set_node::<V6>("fd00:168::1", "fd00:244::/32", "fd00:96::/64");
        dataplane
    }

    /// Replaces what the programs know of the node.
    ///
    /// # Panics
    /// If an argument is no address or range of the family.
    pub fn set_node<F: Named>(&mut self, address: &str, pods: &str, services: &str)
    where
        NodeConfig<F::Addr>: MapType,
        F::Addr: MapType,
    {
        let mut node = NodeConfig { address: family_addr::<F>(address), ..NodeConfig::default() };
        node.cluster_cidrs[0] = range::<F>(pods);
        node.service_cidrs[0] = range::<F>(services);
        object::array(&mut self.object, F::NODE).set(0, Cell(node), 0).expect("the node entry can be set");
        object::hash::<F::Addr, u32>(&mut self.object, F::LOCAL)
            .insert(Cell(node.address), Cell(1), 0)
            .expect("an address can be added");
    }

    /// Adds a frontend whose backends serve everybody; `change` may say otherwise. Local backends carry a `*`
    /// behind their address, and those whose nodes take tunnels a `^`. Gives its id.
    ///
    /// # Panics
    /// If an argument is no address, or a map is full.
    pub fn serve(
        &mut self,
        proto: Proto,
        at: &str,
        backends: &[&str],
        change: impl FnOnce(&mut Frontend),
    ) -> ServiceId {
        if at.starts_with('[') {
            self.serve_family::<V6>(proto, at, backends, change)
        } else {
            self.serve_family::<V4>(proto, at, backends, change)
        }
    }

    fn serve_family<F: Named>(
        &mut self,
        proto: Proto,
        at: &str,
        backends: &[&str],
        change: impl FnOnce(&mut Frontend),
    ) -> ServiceId
    where
        F::Addr: MapType,
        Backend<F::Addr>: MapType,
        FrontendKey<F::Addr>: MapType,
    {
        let start = self.next_slot[F::INDEX];
        let mut slots = object::array(&mut self.object, F::BACKENDS);
        for (index, text) in (start..).zip(backends) {
            let flags = match text.chars().last() {
                Some('*') => BackendFlags::LOCAL,
                Some('^') => BackendFlags::UNWRAPS,
                _ => BackendFlags::REMOTE,
            };
            let (addr, port) = endpoint::<F>(text.trim_end_matches(['*', '^']));
            slots.set(index, Cell(Backend::new(addr, port, flags)), 0).expect("a slot can be set");
        }
        let len = u32::try_from(backends.len()).expect("few");
        self.next_slot[F::INDEX] += len;
        let service = ServiceId(self.next_service);
        self.next_service += 1;
        let segment = if len == 0 { Segment::EMPTY } else { Segment { start, len } };
        let mut frontend = Frontend {
            cluster: segment,
            service,
            generation: 1,
            rules: [ClientRule::CLUSTER; 3],
            flags: FrontendFlags::CLUSTER_IP,
            ..Frontend::default()
        };
        change(&mut frontend);
        let (addr, port) = endpoint::<F>(at);
        let mut frontends = object::hash(&mut self.object, F::FRONTENDS);
        frontends
            .insert(Cell(FrontendKey::new(addr, port, proto)), Cell(frontend), 0)
            .expect("a frontend fits");
        let wildcard = Frontend { flags: FrontendFlags::WILDCARD, ..Frontend::default() };
        frontends.insert(Cell(FrontendKey::wildcard(addr)), Cell(wildcard), 0).expect("a wildcard fits");
        service
    }

    /// Tells the programs what a device is.
    ///
    /// # Panics
    /// If the map is full.
    pub fn add_device(&mut self, index: u32, kind: DeviceKind) {
        let mut devices = object::hash::<u32, DeviceKind>(&mut self.object, "devices");
        devices.insert(Cell(index), Cell(kind), 0).expect("a device fits");
        self.note_policy_write();
    }

    /// Makes an address one of the node's.
    ///
    /// # Panics
    /// If it is none.
    pub fn add_local(&mut self, ip: &str) {
        let ip: IpAddr = ip.parse().expect("an address");
        if let Some(addr) = Addr4::from_ip(ip) {
            object::hash::<Addr4, u32>(&mut self.object, V4::LOCAL)
                .insert(Cell(addr), Cell(1), 0)
                .expect("fits");
        }
        if let Some(addr) = Addr6::from_ip(ip) {
            object::hash::<Addr6, u32>(&mut self.object, V6::LOCAL)
                .insert(Cell(addr), Cell(1), 0)
                .expect("fits");
        }
    }

    /// The program, loaded.
    ///
    /// # Panics
    /// If the verifier refuses it; the message is its log.
    pub fn program(&mut self, name: &str) -> &mut SchedClassifier {
        let program = self.object.program_mut(name).unwrap_or_else(|| panic!("no program {name}"));
        let program: &mut SchedClassifier = program.try_into().expect("a tc program");
        if program.fd().is_err() {
            object::load_program(name, || program.load());
        }
        program
    }

    /// A map's descriptor.
    ///
    /// # Panics
    /// If there is no such map.
    pub fn map(&self, name: &str) -> RawFd {
        let map = self.object.map(name).unwrap_or_else(|| panic!("no map {name}"));
        let (Map::HashMap(data) | Map::LruHashMap(data)) = map else { panic!("{name} is no hash") };
        data.fd().as_fd().as_raw_fd()
    }

    /// Runs a program on a frame that passes the loopback device.
    pub fn run(&mut self, program: &str, bytes: &[u8]) -> Run {
        self.run_on(program, 1, bytes)
    }

    /// Runs a program on a frame that passes a device.
    pub fn run_on(&mut self, program: &str, device: u32, bytes: &[u8]) -> Run {
        self.run_at(program, Hook { device, arrived_by: 0 }, bytes)
    }

    /// Runs a program on a frame that passes a device, and has come in by another.
    ///
    /// # Panics
    /// If the kernel refuses, or the program did not count exactly one reason.
    pub fn run_at(&mut self, program: &str, hook: Hook, bytes: &[u8]) -> Run {
        let before = object::counters(&self.object);
        let mut out = vec![0; bytes.len() + 256];
        let result = self
            .program(program)
            .test_run(TestRunOptions {
                data_in: Some(bytes),
                data_out: Some(&mut out),
                ctx_in: Some(&context(hook)),
                ..TestRunOptions::default()
            })
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        out.truncate(result.data_size_out as usize);
        let mut after = object::counters(&self.object);
        for (reason, count) in before {
            *after.entry(reason).or_default() -= count;
        }
        let changed: Vec<(Reason, u64)> = after.into_iter().filter(|(_, count)| *count != 0).collect();
        let [(reason, 1)] = changed[..] else { panic!("{program} counted {changed:?}") };
        Run { reason, code: result.return_value.cast_signed(), bytes: out }
    }

    /// Runs a program `repeat` times on one frame, which each run finds as the last one left it; gives the time of
    /// one run as the kernel measures it.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn time(&mut self, program: &str, device: u32, bytes: &[u8], repeat: u32) -> Duration {
        let options = TestRunOptions {
            data_in: Some(bytes),
            ctx_in: Some(&context(Hook { device, arrived_by: 0 })),
            repeat,
            ..TestRunOptions::default()
        };
        let result = self.program(program).test_run(options);
        result.unwrap_or_else(|error| panic!("{program}: {error}")).duration
    }

    /// The maps and programs, for what has no method here.
    pub fn object(&mut self) -> &mut Ebpf {
        &mut self.object
    }

    /// Everything counted so far.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<Reason, u64> {
        object::counters(&self.object)
    }
}

/// Where a frame is when a program sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hook {
    /// Index of the program's device; it must exist.
    pub device: u32,
    /// Index of the device that the frame has come in by; zero: a process of the node has sent it.
    pub arrived_by: u32,
}

/// `struct __sk_buff` with nothing but the devices; the kernel refuses fields that it does not take.
fn context(hook: Hook) -> [u8; 192] {
    const INGRESS_IFINDEX: usize = 36;
    const IFINDEX: usize = 40;
    let mut context = [0; 192];
    context[INGRESS_IFINDEX..INGRESS_IFINDEX + 4].copy_from_slice(&hook.arrived_by.to_ne_bytes());
    context[IFINDEX..IFINDEX + 4].copy_from_slice(&hook.device.to_ne_bytes());
    context
}

/// Runs `ip` with these words in the thread's namespace.
///
/// # Panics
/// If it fails.
pub fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().expect("iproute2 is installed");
    assert!(status.success(), "ip {words}");
}
