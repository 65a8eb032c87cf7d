//! A node with an agent as its operator sees it: a network namespace, directories, and the two binaries.
//! Everything goes when it is dropped, also after a panic.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

static NUMBER: AtomicU32 = AtomicU32::new(0);
const HEALTH: &str = "127.0.0.1:10256";
const METRICS: &str = "127.0.0.1:10249";

pub(crate) struct Node {
    bpf_root: PathBuf,
    cgroup_root: PathBuf,
    scratch: tempfile::TempDir,
    agent: Option<Child>,
}

/// Runs `test` on a thread in a new network namespace with one device; children inherit the namespace.
pub(crate) fn on_a_node(test: impl FnOnce(&mut Node) + Send + 'static) {
    let run = move || {
        let flags = rustix::thread::UnshareFlags::NEWNET;
        // SAFETY: a new network namespace shares no memory or descriptors.
        unsafe { rustix::thread::unshare_unsafe(flags) }.expect("a network namespace needs root");
        for words in [
            &["link", "set", "lo", "up"][..],
            &["link", "add", "eth0", "type", "veth", "peer", "name", "other"],
            &["addr", "add", "192.0.2.1/24", "dev", "eth0"],
            &["link", "set", "other", "up"],
            &["link", "set", "eth0", "up"],
            &["route", "add", "default", "via", "192.0.2.254"],
        ] {
            assert!(Command::new("ip").args(words).status().expect("ip").success(), "ip {words:?}");
        }
        test(&mut Node::new());
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
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

/// An answer over HTTP.
pub(crate) struct Answer {
    pub(crate) code: u16,
    /// Status line and headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Status and body of `GET path`.
fn get(server: &str, path: &str) -> Option<(u16, String)> {
    ask(server, path).map(|answer| (answer.code, answer.body))
}

fn ask(server: &str, path: &str) -> Option<Answer> {
    let address: SocketAddr = server.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { code, head: head.to_owned(), body: body.to_owned() })
}

impl Node {
    fn new() -> Self {
        let name = format!("sluice-agent-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mounts = fs::read_to_string("/proc/mounts").expect("procfs");
        let cgroup2 = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let cgroup2 = cgroup2.and_then(|line| line.split(' ').nth(1)).expect("cgroup2 is mounted");
        let cgroup_root = Path::new(cgroup2).join(&name);
        fs::create_dir(&cgroup_root).expect("a cgroup needs root");
        let scratch = tempfile::tempdir().expect("a directory");
        fs::create_dir(scratch.path().join("manifests")).expect("a directory");
        Self { bpf_root: Path::new("/sys/fs/bpf").join(name), cgroup_root, scratch, agent: None }
    }

    /// Puts a manifest in place as one step.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let draft = self.scratch.path().join(name);
        fs::write(&draft, text).expect("a file");
        fs::rename(draft, self.scratch.path().join("manifests").join(name)).expect("a file");
    }

    /// `proxy-agent run` with the flags of this node, of which `changed` are other ones.
    fn command(&self, changed: &[(&str, &str)]) -> Command {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut flags: BTreeMap<&str, String> = BTreeMap::from([
            ("--node-name", "n1".into()),
            ("--manifests", text(&self.scratch.path().join("manifests"))),
            ("--bpf-root", text(&self.bpf_root)),
            ("--cgroup-root", text(&self.cgroup_root)),
            ("--frontend-table-size", "1000".into()),
            ("--backend-table-size", "1000".into()),
            ("--flow-table-size", "1000".into()),
        ]);
        flags.extend(changed.iter().map(|(flag, value)| (*flag, (*value).to_owned())));
        // With few descriptors, as those leave it who start agents.
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -Sn 256 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_proxy-agent"), "run"]);
        for (flag, value) in flags {
            command.arg(flag).arg(value);
        }
        command
    }

    fn log(&self) -> PathBuf {
        self.scratch.path().join("agent.log")
    }

    /// Starts the agent and waits until it is ready.
    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The same with other flags.
    pub(crate) fn start_with(&mut self, changed: &[(&str, &str)]) {
        let log = fs::File::create(self.log()).expect("a file");
        self.agent = Some(self.command(changed).stderr(log).spawn().expect("the agent"));
        eventually(&format!("the agent is ready; it says {:?}", self.log()), || {
            let ended = self.agent.as_mut().and_then(|agent| agent.try_wait().ok()).flatten();
            assert!(ended.is_none(), "the agent ended: {}", self.said());
            get(HEALTH, "/readyz").filter(|(code, _)| *code == 200)
        });
    }

    /// What the agent has logged.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// How many descriptors the agent may have, and could have: the limits of the process.
    pub(crate) fn descriptors(&self) -> [String; 2] {
        let pid = self.agent.as_ref().expect("an agent").id();
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("procfs");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a limit");
        let mut words = line.split_whitespace().map(str::to_owned);
        [words.next().expect("the soft one"), words.next().expect("the hard one")]
    }

    /// Runs an agent that is to fail, with other flags; gives its exit code and what it says.
    pub(crate) fn refused(&self, changed: &[(&str, &str)]) -> (Option<i32>, String) {
        let output = self.command(changed).args(["--log-level", "off"]).output().expect("the agent");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Ends the agent with that signal; gives its exit code.
    pub(crate) fn end(&mut self, signal: rustix::process::Signal) -> Option<i32> {
        let mut agent = self.agent.take().expect("an agent");
        rustix::process::kill_process(rustix::process::Pid::from_child(&agent), signal).expect("a signal");
        agent.wait().expect("its end").code()
    }

    /// Waits until the agent ends of itself; gives its exit code.
    pub(crate) fn await_end(&mut self) -> Option<i32> {
        let code = eventually("the agent ends", || {
            self.agent.as_mut().and_then(|agent| agent.try_wait().ok()).flatten()
        });
        self.agent = None;
        code.code()
    }

    /// Writes a file beside the manifests; gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.scratch.path().join(name);
        fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    }

    /// What a server of this node answers, if it does.
    pub(crate) fn http(&self, server: &str, path: &str) -> Option<Answer> {
        ask(server, path)
    }

    pub(crate) fn health(&self, path: &str) -> (u16, Value) {
        let (code, body) = get(HEALTH, path).expect("an answer");
        (code, serde_json::from_str(&body).expect("JSON"))
    }

    pub(crate) fn metrics(&self, path: &str) -> String {
        get(METRICS, path).expect("an answer").1
    }

    fn proxyctl(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxyctl"));
        command.arg("--bpf-root").arg(&self.bpf_root).args(words).stdin(Stdio::null());
        command.output().expect("proxyctl")
    }

    /// A `proxyctl monitor -o json` that runs.
    pub(crate) fn monitor(&self, words: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxyctl"));
        command.arg("--bpf-root").arg(&self.bpf_root).args(["-o", "json", "monitor"]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("proxyctl")
    }

    /// The directory of its pins.
    pub(crate) fn root(&self) -> &Path {
        &self.bpf_root
    }

    /// What `proxyctl … -o json` says.
    pub(crate) fn ctl(&self, words: &[&str]) -> Value {
        let output = self.proxyctl(&[words, &["-o", "json"]].concat());
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// The same, unless it fails.
    pub(crate) fn ctl_if(&self, words: &[&str]) -> Option<Value> {
        let output = self.proxyctl(&[words, &["-o", "json"]].concat());
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    /// What `proxyctl` says to people.
    pub(crate) fn ctl_text(&self, words: &[&str]) -> String {
        let output = self.proxyctl(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Exit code and complaint of a `proxyctl` that is to fail.
    pub(crate) fn ctl_refused(&self, words: &[&str]) -> (Option<i32>, String) {
        let output = self.proxyctl(words);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Runs `proxy-agent cleanup`.
    pub(crate) fn cleanup(&self) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxy-agent"));
        command.arg("cleanup").arg("--bpf-root").arg(&self.bpf_root);
        command.arg("--cgroup-root").arg(&self.cgroup_root).output().expect("the agent")
    }

    /// The pins are there.
    pub(crate) fn is_pinned(&self) -> bool {
        self.bpf_root.exists()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        let _ = self.cleanup();
        let _ = fs::remove_dir(&self.cgroup_root);
    }
}
