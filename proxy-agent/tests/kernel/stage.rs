//! A node for one test: a thread in a network namespace of its own, a bpffs directory, a cgroup, a run directory.
//! Everything goes when it is dropped, also after a panic.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use proxy_agent::kernel::cleanup::{Farewell, cleanup};
use proxy_agent::kernel::{
    DriverRoad, Families, Kernel, PodDevices, Settings, Sizes, SocketRoad, Tallies, Tunnels, Uplinks,
};
use proxy_common::maps::LAYOUT_VERSION;

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Stage {
    name: String,
    /// What the agent of this node is told.
    pub(crate) settings: Settings,
}

/// Runs `test` on a thread of its own in a new network namespace.
pub(crate) fn on_a_node(test: impl FnOnce(&mut Stage) + Send + 'static) {
    let run = move || {
        // The namespace of this thread alone.
        let flags = rustix::thread::UnshareFlags::NEWNET;
        // SAFETY: a new network namespace shares no memory or descriptors.
        unsafe { rustix::thread::unshare_unsafe(flags) }.expect("a network namespace needs root");
        run(&["ip", "link", "set", "lo", "up"]);
        test(&mut Stage::new());
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command in the namespace of the calling thread.
pub(crate) fn run(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().expect(words[0]);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until `check` gives a value.
pub(crate) fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Stage {
    fn new() -> Self {
        let name = format!("sluice-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let cgroup_root = cgroup2().join(&name);
        fs::create_dir(&cgroup_root).expect("a cgroup needs root");
        let bpf_root = PathBuf::from("/sys/fs/bpf").join(&name);
        let run_root = std::env::temp_dir().join(&name);
        let sizes = Sizes { frontends: 1_000, backends: 4_000, flows: 1_000, ..Sizes::DEFAULT };
        let settings = Settings {
            bpf_root,
            cgroup_root,
            run_root,
            socket_road: SocketRoad::On,
            families: Families::Dual,
            sizes,
            uplinks: Uplinks::Auto,
            tallies: Tallies::Kept,
            tunnels: Tunnels::Off,
            pods: PodDevices::Unnamed,
            driver: DriverRoad::Off,
        };
        Self { name, settings }
    }

    /// Starts an agent's kernel room.
    pub(crate) fn open(&self) -> Kernel {
        match Kernel::open(&self.settings) {
            Ok(kernel) => kernel,
            Err(error) => panic!("{:#}", anyhow::Error::from(error)),
        }
    }

    /// A veth pair whose other end is in a namespace that lives as long as the stage; gives our end's index.
    pub(crate) fn pod(&self, device: &str) -> u32 {
        let peer = self.peer();
        run(&["ip", "link", "add", device, "type", "veth", "peer", "name", device, "netns", &peer]);
        run(&["ip", "link", "set", device, "up"]);
        index(device)
    }

    /// The namespace of all pods.
    pub(crate) fn peer(&self) -> String {
        if !PathBuf::from("/run/netns").join(&self.name).exists() {
            run(&["ip", "netns", "add", &self.name]);
        }
        self.name.clone()
    }

    /// Names of all pins below a directory of the root, sorted.
    pub(crate) fn pins(&self, below: &str) -> Vec<String> {
        let dir = self.settings.bpf_root.join(format!("v{LAYOUT_VERSION}")).join(below);
        let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// The index of a device of this thread's namespace.
pub(crate) fn index(device: &str) -> u32 {
    let line = run(&["ip", "-o", "link", "show", device]);
    line.split(':').next().and_then(|index| index.trim().parse().ok()).expect("ip prints the index first")
}

fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").expect("procfs");
    let point = mounts
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some("cgroup2"))
        .find_map(|line| line.split(' ').nth(1));
    point.expect("cgroup2 is mounted").into()
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = cleanup(&self.settings.bpf_root, &self.settings.run_root, Farewell::AtOnce);
        let _ = fs::remove_dir_all(&self.settings.run_root);
        // Also where a test has named another one, or made one below.
        let own = cgroup2().join(&self.name);
        for below in fs::read_dir(&own).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(below.path());
        }
        let _ = fs::remove_dir(own);
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}
