//! `proxy-agent cleanup` leaves nothing of ours in the kernel or on disk, takes nothing from an agent that runs, and may
//! be run again and again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use aya::programs::{loaded_links, loaded_programs};
use proxy_common::maps::LAYOUT_VERSION;
use serde_json::{Value, json};
use sluice_lab::{Failure, SocketLb, Stop};

use crate::stage::{NODES, SERVERS, Stage, WEB, frontends};

/// The kernel frees programs and maps some time after their last use.
const FREEING: Duration = Duration::from_secs(5);

#[test]
fn a_cleanup_leaves_nothing_on_the_socket_road() {
    leaves_nothing(SocketLb::On, Place::Node);
}

#[test]
fn a_cleanup_in_a_container_that_has_the_node_below_a_directory_leaves_nothing_on_the_packet_road() {
    leaves_nothing(SocketLb::Host, Place::Container);
}

/// Where the command is given.
#[derive(Clone, Copy)]
enum Place {
    Node,
    /// What `kubectl debug node/NODE` starts: all of the node is below a directory, and its own `/run` and `/sys` have nothing.
    Container,
}

const CONTAINER: &str = r#"
    mount -t tmpfs none /mnt && mkdir /mnt/host && mount --rbind / /mnt/host &&
    mount -t tmpfs none /run/sluice && mount -t tmpfs none /sys/fs/bpf &&
    exec "$0" "$@" --chroot /mnt/host"#;

fn leaves_nothing(road: SocketLb, place: Place) {
    let stage = Stage::begin(road);
    stage.reaches(&WEB, &SERVERS);
    let [node, _] = NODES;
    let status = stage.status(node);
    let traces = Traces::of(&stage, node, &status);
    assert_eq!(traces.left(), traces.all(), "everything is there before");

    refuses_while_an_agent_runs(&stage, node, place, &status);
    assert_eq!(traces.left(), traces.all(), "nothing was taken from the agent");
    stage.reaches(&WEB, &SERVERS);

    stage.stop_agents(Stop::Terminate);
    stage.reaches(&WEB, &SERVERS);
    let links = status["hooks"].as_array().unwrap().len();
    let maps = status["maps"].as_array().unwrap().len();
    assert_eq!(cleanup(&stage, node, place), removed(&stage, node, links, maps));
    traces.vanish();
    assert_eq!(cleanup(&stage, node, place), removed(&stage, node, 0, 0));
    nobody_translates(&stage);

    stage.start_agents();
    stage.reaches(&WEB, &SERVERS);
    assert_eq!(stage.status(node)["start"]["adopted"], json!(false));
}

fn refuses_while_an_agent_runs(stage: &Stage, node: &str, place: Place, status: &Value) {
    let (success, _, stderr) = cleanup(stage, node, place);
    let root = stage.lab.node_bpf_root(node);
    let wanted = format!(
        "proxy-agent: another agent (pid {}) serves {}: stop it, or give this one another --bpf-root\n",
        status["agent"]["pid"],
        root.display()
    );
    assert_eq!((success, stderr), (false, wanted));
}

/// Without programs a ClusterIP is an address like any other, which nobody has.
fn nobody_translates(stage: &Stage) {
    for client in stage.clients() {
        for (probe, tally) in frontends(&WEB).iter().zip(client.probe(&frontends(&WEB)).unwrap()) {
            let what = format!("{} to {} {}: {tally}", client.name, probe.protocol, probe.to);
            assert_eq!((tally.answers(), tally.failures()), (0, 1), "{what}");
            assert!(!tally.failed.contains_key(&Failure::Refused), "{what}");
        }
    }
}

fn cleanup(stage: &Stage, node: &str, place: Place) -> (bool, String, String) {
    let agent = stage.agent(node);
    let mut command = match place {
        Place::Node => agent,
        Place::Container => {
            let mut command = stage.lab.node(node).unwrap().command("unshare").unwrap();
            command
                .args(["--mount", "--propagation", "private", "sh", "-c", CONTAINER])
                .arg(agent.get_program());
            command
        }
    };
    command.arg("cleanup").arg("--bpf-root").arg(stage.lab.node_bpf_root(node));
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.success(), text(stdout), text(stderr))
}

fn removed(stage: &Stage, node: &str, links: usize, maps: usize) -> (bool, String, String) {
    let root = stage.lab.node_bpf_root(node);
    (true, format!("removed {links} links and {maps} maps of {}\n", root.display()), String::new())
}

/// What an agent leaves behind, by name.
struct Traces {
    links: BTreeSet<u32>,
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    folders: BTreeSet<PathBuf>,
}

impl Traces {
    /// The links and programs that the agent's status names, their maps, and the agent's folders.
    fn of(stage: &Stage, node: &str, status: &Value) -> Self {
        let ids = |name: &str| -> BTreeSet<u32> {
            let hooks = status["hooks"].as_array().unwrap().iter();
            hooks.map(|hook| u32::try_from(hook[name].as_u64().unwrap()).unwrap()).collect()
        };
        let (links, programs) = (ids("linkId"), ids("programId"));
        let maps: BTreeSet<u32> = loaded_programs()
            .flatten()
            .filter(|program| programs.contains(&program.id()))
            .flat_map(|program| program.map_ids().unwrap().unwrap())
            .collect();
        let root = stage.lab.node_bpf_root(node);
        // One folder per root; its name is that of the root.
        let id = stage.lab.id().to_string();
        let run = std::fs::read_dir("/run/sluice").unwrap().map(|entry| entry.unwrap().path());
        let run = run.filter(|path| names(path, &id) && names(path, "node--1"));
        let folders: BTreeSet<PathBuf> =
            run.chain([root.clone(), root.join(format!("v{LAYOUT_VERSION}"))]).collect();
        assert_eq!(folders.len(), 3, "{folders:?}");
        assert!(!maps.is_empty() && !links.is_empty());
        Self { links, programs, maps, folders }
    }

    fn all(&self) -> Vec<String> {
        self.list(|_| true, |_| true, |_| true, |_| true)
    }

    /// What of it is there now.
    fn left(&self) -> Vec<String> {
        let links: BTreeSet<u32> = loaded_links().flatten().map(|link| link.id()).collect();
        let programs: BTreeSet<u32> = loaded_programs().flatten().map(|program| program.id()).collect();
        let maps = map_ids();
        self.list(
            |id| links.contains(&id),
            |id| programs.contains(&id),
            |id| maps.contains(&id),
            Path::exists,
        )
    }

    fn list(
        &self,
        link: impl Fn(u32) -> bool,
        program: impl Fn(u32) -> bool,
        map: impl Fn(u32) -> bool,
        folder: impl Fn(&Path) -> bool,
    ) -> Vec<String> {
        let mut list = Vec::new();
        list.extend(self.links.iter().filter(|id| link(**id)).map(|id| format!("link {id}")));
        list.extend(self.programs.iter().filter(|id| program(**id)).map(|id| format!("program {id}")));
        list.extend(self.maps.iter().filter(|id| map(**id)).map(|id| format!("map {id}")));
        list.extend(self.folders.iter().filter(|path| folder(path)).map(|path| path.display().to_string()));
        list
    }

    fn vanish(&self) {
        let deadline = Instant::now() + FREEING;
        while !self.left().is_empty() {
            assert!(Instant::now() < deadline, "left behind: {:?}", self.left());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn names(path: &Path, part: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(part))
}

/// The numbers of all maps. None is opened: an array of programs that somebody opens while the kernel empties it, after its last
/// user, stays for good.
fn map_ids() -> BTreeSet<u32> {
    const BPF_MAP_GET_NEXT_ID: libc::c_int = 12;
    std::iter::successors(Some(0), |before| {
        // The start, the next one, flags.
        let mut attr = [*before, 0, 0];
        // SAFETY: the kernel reads and writes no more than the three words that it is told of, and they outlive the call.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_MAP_GET_NEXT_ID, attr.as_mut_ptr(), size_of_val(&attr))
        };
        (result == 0).then_some(attr[1])
    })
    .skip(1)
    .collect()
}
