//! The steps of a start that touch what runs: which programs are loaded, and in which order links get them.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Kernel, clsact,
    error::Error,
    handover::Handover,
    links::{self, Tally},
    load::Programs,
    migrate::{Migration, Tables},
    onward,
    pins::Pins,
    record::{Record, State},
    rehearsal, reserve,
    settings::{Settings, SocketRoad},
    topology::Topology,
};

/// Programs of another map layout run, and nobody can read what they know: they go on until the first plan is made.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) handover: Handover,
    /// What is to be followed then.
    pub(super) followed: Option<(Topology, Vec<IpAddr>)>,
}

/// What is written down of a start; `found` are the frontends that were there, `devices` the links of devices that got new
/// programs.
pub(super) fn state(found: usize, sockets: Tally, devices: usize, programs: &Programs) -> State {
    State {
        adopted: found > 0,
        at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        kept: found,
        pid: std::process::id(),
        links_replaced: sockets.replaced + devices,
        links_created: sockets.created,
        constants: rehearsal::written(programs.constants()),
        ..State::default()
    }
}

impl Kernel {
    /// Nobody of ours has served here before: another proxy may have.
    pub(super) fn reserve(&self) {
        match self.programs.clock().map(|clock| reserve::reserve(&self.maps, clock)) {
            Ok(Ok(0)) => {}
            Ok(Ok(ports)) => {
                tracing::info!(ports, "ports of connections that netfilter translates are left alone")
            }
            Ok(Err(error)) => tracing::info!(%error, "netfilter's connections are not known"),
            Err(error) => tracing::warn!(%error, "netfilter's connections are not known"),
        }
    }

    /// The maps hold what is to be served: our programs take the place of those of another layout. What fails is logged;
    /// the next start tries again.
    pub(super) fn stop_waiting(&mut self) {
        let Some(Waiting { handover, followed }) = self.waiting.take() else { return };
        if let Err(error) = self.take_over(handover) {
            tracing::error!(error = &error as &dyn std::error::Error, "the programs of another layout stay");
        }
        if let Some((topology, node)) = followed {
            for error in self.follow(&topology, &node) {
                tracing::error!(error = &error as &dyn std::error::Error, "a device is not served");
            }
        }
    }

    fn take_over(&mut self, handover: Handover) -> Result<(), Error> {
        handover.cross()?;
        let (pins, settings) = (self.maps.pins.clone(), self.settings.clone());
        match links::attach_cgroup(&pins, &self.programs, &settings.cgroup_root) {
            Ok(_) => {}
            Err(error) if settings.socket_road == SocketRoad::Auto => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "sockets cannot be served, pods' packets are"
                );
                self.programs = Programs::load(&pins, &settings, SocketRoad::Off)?;
                self.road = SocketRoad::Off;
            }
            Err(error) => return Err(error),
        }
        links::replace_devices(&pins, &self.programs)?;
        handover.finish()?;
        if !clsact::needed() {
            self.maps.parties.fall_due();
        }
        Ok(())
    }
}

/// Loads the programs for the configured road; [`SocketRoad::Auto`] first means everybody.
pub(super) fn load(pins: &Pins, settings: &Settings) -> Result<(SocketRoad, Programs), Error> {
    let road = match settings.socket_road {
        SocketRoad::Auto | SocketRoad::On => SocketRoad::On,
        road @ (SocketRoad::Host | SocketRoad::Off) => road,
    };
    Ok((road, Programs::load(pins, settings, road)?))
}

/// Time for pods' sockets to send a first datagram to the frontend that they were connected to before our hooks saw them:
/// the programs of the packet road make an entry of it, which stays. Longer than a processor is likely to be had by others.
const FIRST_WORDS: Duration = Duration::from_millis(100);

/// Puts the programs to work, at sockets and at devices; says how many links came to them in which way, and at devices
/// how many. `record` is of the start before this one.
pub(super) fn attach(
    pins: &Pins,
    settings: &Settings,
    road: SocketRoad,
    programs: Programs,
    migration: &Migration,
    record: &Record,
) -> Result<(SocketRoad, Programs, Tally, usize), Error> {
    match road {
        // Where packets take over from sockets, they are served before the sockets stop to be.
        SocketRoad::Host | SocketRoad::Off => {
            let devices = attach_devices(pins, settings, road, &programs, migration)?;
            let (road, programs, sockets) = attach_sockets(pins, settings, road, programs)?;
            Ok((road, programs, sockets, devices))
        }
        SocketRoad::Auto | SocketRoad::On => {
            let (road, programs, sockets) = attach_sockets(pins, settings, road, programs)?;
            let before = record.state().and_then(|state| rehearsal::constants(&state.constants));
            if road == SocketRoad::On && before.is_some_and(|constants| constants.pod_packets != 0) {
                std::thread::sleep(FIRST_WORDS);
            }
            let devices = attach_devices(pins, settings, road, &programs, migration)?;
            Ok((road, programs, sockets, devices))
        }
    }
}

/// Gives every link of a device its program, in the steps in which connections can follow.
fn attach_devices(
    pins: &Pins,
    settings: &Settings,
    road: SocketRoad,
    programs: &Programs,
    migration: &Migration,
) -> Result<usize, Error> {
    if migration.moves_flows() {
        for tables in [Tables::Leaving, Tables::Coming] {
            links::replace_devices(pins, &Programs::load_over(pins, settings, road, tables)?)?;
        }
        migration.copy_flows()?;
    }
    let replaced = links::replace_devices(pins, programs)?;
    // No link has a program of an earlier generation any more.
    onward::let_go_of_others(pins, programs.ahead())?;
    Ok(replaced)
}

/// Attaches the cgroup hooks. Where [`SocketRoad::Auto`] cannot, everything is served by packets instead.
fn attach_sockets(
    pins: &Pins,
    settings: &Settings,
    road: SocketRoad,
    programs: Programs,
) -> Result<(SocketRoad, Programs, Tally), Error> {
    match links::attach_cgroup(pins, &programs, &settings.cgroup_root) {
        Ok(tally) => Ok((road, programs, tally)),
        Err(error) if settings.socket_road == SocketRoad::Auto => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "sockets cannot be served, pods' packets are"
            );
            let programs = Programs::load(pins, settings, SocketRoad::Off)?;
            Ok((SocketRoad::Off, programs, Tally::default()))
        }
        Err(error) => Err(error),
    }
}
