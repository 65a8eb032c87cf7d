//! The XDP program in the drivers of uplinks. It is a short cut: where it cannot be attached, the programs at the tc hooks
//! serve everybody, so a refusal is a warning and no error.

use std::{collections::BTreeMap, io};

use super::{
    devices::is_alive,
    error::Error,
    hook::{Anchor, Hook},
    links,
    load::Programs,
    pins::{Pinned, PinnedLink, Pins, Target},
    record::Record,
    settings::DriverRoad,
    sys::Place,
    topology::{DeviceKind, IfIndex, Role, Topology},
};

/// What became of each uplink.
#[derive(Debug, Default)]
pub struct Drivers {
    known: BTreeMap<IfIndex, Known>,
}

#[derive(Debug)]
struct Known {
    name: String,
    state: State,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Attached(&'static str),
    Refused(String),
}

impl Drivers {
    /// Attaches to the uplinks that `road` names, lets those of other devices go. Gives what failed of the latter.
    pub fn follow(
        &mut self,
        road: DriverRoad,
        roles: &BTreeMap<IfIndex, Role>,
        topology: &Topology,
        maps: &Pinned,
        programs: &Programs,
    ) -> Option<Error> {
        let uplinks = roles.iter().filter(|(_, role)| **role == Role::Uplink).map(|(index, _)| *index);
        let uplinks: Vec<_> = uplinks.filter(|_| road != DriverRoad::Off).collect();
        self.known.retain(|index, _| uplinks.contains(index));
        for index in uplinks {
            let Some(device) = topology.devices.get(&index) else { continue };
            let settled = self.known.get(&index).is_some_and(|known| {
                known.name == device.name
                    && (known.state.is_refused() || is_alive(Hook::EarlyWire, index, maps))
            });
            if !settled {
                let state = attach(road, index, device.kind, maps, programs);
                state.tell(&device.name);
                self.known.insert(index, Known { name: device.name.clone(), state });
            }
        }
        self.detach_others(maps).err()
    }

    fn detach_others(&self, maps: &Pinned) -> Result<(), Error> {
        let attached = |index: &IfIndex| self.known.get(index).is_some_and(|known| !known.state.is_refused());
        for link in driver_links(&maps.pins)? {
            if !matches!(link.target, Target::Device(index) if attached(&index)) {
                links::detach(&link)?;
            }
        }
        Ok(())
    }

    /// The devices by name, and the mode of each, or why it has none.
    #[must_use]
    pub fn modes(&self) -> BTreeMap<String, String> {
        self.known.values().map(|known| (known.name.clone(), known.state.to_string())).collect()
    }
}

impl State {
    fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    fn tell(&self, device: &str) {
        match self {
            Self::Attached(mode) => tracing::info!(device, mode, "XDP serves the uplink"),
            Self::Refused(why) => {
                tracing::warn!(device, why, "no XDP on the uplink; its packets are served at the tc hook");
            }
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Attached(mode) => f.write_str(mode),
            Self::Refused(why) => write!(f, "none: {why}"),
        }
    }
}

fn attach(road: DriverRoad, index: IfIndex, kind: DeviceKind, maps: &Pinned, programs: &Programs) -> State {
    let (place, mode) = match road {
        DriverRoad::Off => return State::Refused("it is off".into()),
        DriverRoad::Auto if kind == DeviceKind::VethAcross => {
            return State::Refused(
                "packets of a veth may lack their checksums; ask for native if they do not".into(),
            );
        }
        DriverRoad::Auto | DriverRoad::Native => (Place::Driver, "native"),
        DriverRoad::Generic => (Place::Generic, "generic"),
    };
    match links::attach(&maps.pins, programs, Hook::EarlyWire, Target::Device(index), index.0, place) {
        Ok(_) => State::Attached(mode),
        Err(Error::Attach { source, .. }) => State::Refused(reason(&source)),
        Err(error) => State::Refused(error.to_string()),
    }
}

/// What the kernel means by its refusal.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => "somebody else's program is there".into(),
        Some(libc::EOPNOTSUPP) => "the driver runs no programs".into(),
        _ => error.to_string(),
    }
}

fn driver_links(pins: &Pins) -> Result<Vec<PinnedLink>, Error> {
    Ok(pins.links()?.into_iter().filter(|link| link.hook.anchor() == Anchor::Driver).collect())
}

/// Lets go of links of an earlier agent whose mode is not the one asked for: a link keeps its mode when its program is
/// replaced.
///
/// # Errors
/// [`Error::Path`].
pub fn let_go_of_other_modes(pins: &Pins, record: &Record, road: DriverRoad) -> Result<(), Error> {
    let modes: Vec<String> =
        record.state().map(|state| state.xdp.into_values().collect()).unwrap_or_default();
    if modes.iter().all(|mode| mode.starts_with("none") || Some(mode.as_str()) == road.mode()) {
        return Ok(());
    }
    driver_links(pins)?.iter().try_for_each(links::detach)
}
