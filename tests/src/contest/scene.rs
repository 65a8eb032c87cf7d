//! What is asked: scenes, each of which everybody plays who can.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;
use sluice_load::order::Mode;

use super::contender::{Contender, Policies, Rules, Size, Who};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// The Service that is found last, where an order matters.
    Last,
    /// Any Service, another for each connection.
    Random,
    /// The Service with datagrams.
    Datagrams,
    /// A node port whose backends are on that node.
    Near,
    /// A node port whose backend is on another node.
    Far,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asker {
    /// A pod of the node.
    Pod,
    /// A host outside.
    Outside,
}

/// Where the client runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On the server's processor: the rate is what both ends and the way between them cost, with nobody woken elsewhere.
    Same,
    /// On another one, as in life; what waking it costs is most of the noise.
    Other,
}

/// Something that is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Scene {
    /// Name.
    pub name: &'static str,
    /// What a transaction is.
    pub mode: Mode,
    /// What is asked for.
    pub aim: Aim,
    /// Who asks.
    pub asker: Asker,
    /// Where the client runs.
    pub place: Place,
    /// Length of a slice.
    pub millis: u64,
    /// Rounds; in each, everybody has two slices.
    pub rounds: usize,
}

impl Scene {
    /// Whether it means something for a contender.
    #[must_use]
    pub fn is_for(&self, contender: Contender) -> bool {
        let policed =
            matches!(contender.who, Who::Socket(Policies::Present(_)) | Who::Packet(Policies::Present(_)));
        let few = contender.services <= 10;
        match self.aim {
            Aim::Last if self.place == Place::Same && matches!(self.mode, Mode::Crr | Mode::Rr) => {
                self.mode == Mode::Crr || few || contender.services >= 10_000
            }
            Aim::Last => few || contender.services == 10_000,
            Aim::Random => contender.services == 0 || contender.services >= 10_000,
            Aim::Datagrams => few,
            // Nobody outside is let in.
            Aim::Near | Aim::Far => few && !policed,
        }
    }
}

/// The scenes of a contest. Which come first matters: they are the ones that the goals are about.
#[must_use]
pub fn scenes(size: Size, rounds: Option<usize>) -> Vec<Scene> {
    let of = |name, mode, aim, millis, usual| Scene {
        name,
        mode,
        aim,
        asker: if matches!(aim, Aim::Near | Aim::Far) { Asker::Outside } else { Asker::Pod },
        place: Place::Same,
        millis: if size == Size::Smoke { 100 } else { millis },
        rounds: rounds.unwrap_or(match size {
            Size::Smoke => 2,
            // Its clock counts instructions: slices differ little.
            Size::Emulated => 3,
            Size::Own | Size::Quick => usual,
            Size::Full => 2 * usual,
        }),
    };
    let crr = of("crr", Mode::Crr, Aim::Last, 400, 12);
    let rr = of("rr", Mode::Rr, Aim::Last, 300, 8);
    let more = [
        of("crr-random", Mode::Crr, Aim::Random, 300, 6),
        of("udp-rr", Mode::UdpRr, Aim::Datagrams, 200, 6),
        of("udp-send-rr", Mode::UdpSendRr, Aim::Datagrams, 200, 6),
        of("stream", Mode::Stream, Aim::Last, 200, 5),
        of("datagrams", Mode::Datagrams, Aim::Datagrams, 200, 5),
        of("nodeport-near", Mode::Crr, Aim::Near, 300, 6),
        of("nodeport-far", Mode::Crr, Aim::Far, 300, 6),
        Scene { place: Place::Other, ..of("crr-across", Mode::Crr, Aim::Last, 300, 5) },
    ];
    match size {
        Size::Smoke => vec![crr, rr],
        Size::Emulated => vec![crr],
        Size::Own | Size::Quick | Size::Full => [crr, rr].into_iter().chain(more).collect(),
    }
}

/// Those that cannot be measured on this kernel, with the reason.
#[must_use]
pub fn absent(contender: Contender) -> Option<&'static str> {
    match contender.who {
        Who::KubeProxy(Rules::NftablesFlowtable) if !has_flow_table() => {
            Some("the kernel has no CONFIG_NF_FLOW_TABLE")
        }
        Who::KubeProxy(Rules::Ipvs) if !has_ipvs() => Some("the kernel has no CONFIG_IP_VS"),
        Who::Direct | Who::Twin | Who::Socket(_) | Who::Packet(_) | Who::KubeProxy(_) => None,
    }
}

fn has_flow_table() -> bool {
    Path::new("/proc/net/nf_flowtable").exists()
        || fs::read_to_string("/proc/kallsyms").is_ok_and(|symbols| symbols.contains("flow_offload_add"))
}

/// Also as a module that nobody has asked for yet.
fn has_ipvs() -> bool {
    let asked = Command::new("modprobe").args(["-q", "-a", "ip_vs", "ip_vs_rr", "dummy"]).status();
    Path::new("/proc/net/ip_vs").exists() || asked.is_ok_and(|status| status.success())
}
