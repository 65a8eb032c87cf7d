//! What planning asks of an address family. The only file of the crate that sets the two apart.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proxy_common::{Family, V4, V6};

use crate::fact::SliceFamily;
use crate::plan::{Actual, Ledger, Plan, Planner, Table, Write};
use crate::settings::{Serving, Settings};

/// An address family as a value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum IpFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl IpFamily {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => V4::NAME,
            Self::Ipv6 => V6::NAME,
        }
    }

    /// The name that the Kubernetes API and its metrics have for it.
    pub const fn api_name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A family that can be planned.
pub trait Served: Family {
    /// Itself as a value.
    const FAMILY: IpFamily;
    /// Its slices.
    const SLICES: SliceFamily;
    /// The loopback address that node ports are served at.
    const LOOPBACK: IpAddr;

    /// Whether it is served.
    fn serving(settings: &Settings) -> Serving;
    /// Its part of the planner.
    fn ledger(planner: &Planner) -> &Ledger<Self>;
    /// The same, to change it.
    fn ledger_mut(planner: &mut Planner) -> &mut Ledger<Self>;
    /// Its writes.
    fn writes(plan: &Plan) -> &[Write<Self>];
    /// Its part of what the kernel holds.
    fn table<'a, 'b>(actual: &'a mut Actual<'b>) -> &'a mut Table<'b, Self>;
}

impl Served for V4 {
    const FAMILY: IpFamily = IpFamily::Ipv4;
    const SLICES: SliceFamily = SliceFamily::Ipv4;
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn serving(settings: &Settings) -> Serving {
        settings.ipv4
    }

    fn ledger(planner: &Planner) -> &Ledger<Self> {
        &planner.v4
    }

    fn ledger_mut(planner: &mut Planner) -> &mut Ledger<Self> {
        &mut planner.v4
    }

    fn writes(plan: &Plan) -> &[Write<Self>] {
        &plan.v4
    }

    fn table<'a, 'b>(actual: &'a mut Actual<'b>) -> &'a mut Table<'b, Self> {
        &mut actual.v4
    }
}

impl Served for V6 {
    const FAMILY: IpFamily = IpFamily::Ipv6;
    const SLICES: SliceFamily = SliceFamily::Ipv6;
    const LOOPBACK: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn serving(settings: &Settings) -> Serving {
        settings.ipv6
    }

    fn ledger(planner: &Planner) -> &Ledger<Self> {
        &planner.v6
    }

    fn ledger_mut(planner: &mut Planner) -> &mut Ledger<Self> {
        &mut planner.v6
    }

    fn writes(plan: &Plan) -> &[Write<Self>] {
        &plan.v6
    }

    fn table<'a, 'b>(actual: &'a mut Actual<'b>) -> &'a mut Table<'b, Self> {
        &mut actual.v6
    }
}
