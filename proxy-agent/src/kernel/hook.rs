//! Where programs sit: the hooks, their names in the object and on the bpffs, and their numbers in the kernel.
//! Knows nothing of devices and links.

use std::fmt;

use aya_obj::generated::bpf_attach_type as attach;

use super::{
    settings::{DriverRoad, Families, SocketRoad},
    topology::Role,
};

/// A place in the kernel where one program of ours runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Hook {
    /// connect(2), IPv4.
    Connect4,
    /// connect(2), IPv6 and IPv4 in IPv6 clothes.
    Connect6,
    /// sendmsg(2) without a connection, IPv4.
    Sendmsg4,
    /// sendmsg(2) without a connection, IPv6 and mapped IPv4.
    Sendmsg6,
    /// recvmsg(2), IPv4.
    Recvmsg4,
    /// recvmsg(2), IPv6 and mapped IPv4.
    Recvmsg6,
    /// getpeername(2), IPv4.
    Getpeername4,
    /// getpeername(2), IPv6 and mapped IPv4.
    Getpeername6,
    /// close(2): the connection of a socket no longer counts as one of its backend's.
    SockRelease,
    /// Ingress of a pod's veth: packets from the pod.
    FromPod,
    /// Egress of a pod's veth: packets to the pod.
    ToPod,
    /// Ingress of an uplink.
    FromWire,
    /// Egress of an uplink.
    ToWire,
    /// The driver of an uplink, before [`Hook::FromWire`] (XDP).
    EarlyWire,
}

/// What a hook hangs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Anchor {
    /// The cgroup root.
    Cgroup,
    /// A device of that role, on one of its sides.
    Device(Role, Side),
    /// The driver of an uplink.
    Driver,
}

/// A side of a device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// Packets that come in.
    Ingress,
    /// Packets that go out.
    Egress,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 14] = [
        Self::Connect4,
        Self::Connect6,
        Self::Sendmsg4,
        Self::Sendmsg6,
        Self::Recvmsg4,
        Self::Recvmsg6,
        Self::Getpeername4,
        Self::Getpeername6,
        Self::SockRelease,
        Self::FromPod,
        Self::ToPod,
        Self::FromWire,
        Self::ToWire,
        Self::EarlyWire,
    ];

    /// Name of the program in the object; part of the link's pin.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
            Self::Sendmsg4 => "sendmsg4",
            Self::Sendmsg6 => "sendmsg6",
            Self::Recvmsg4 => "recvmsg4",
            Self::Recvmsg6 => "recvmsg6",
            Self::Getpeername4 => "getpeername4",
            Self::Getpeername6 => "getpeername6",
            Self::SockRelease => "sock_release",
            Self::FromPod => "from_pod",
            Self::ToPod => "to_pod",
            Self::FromWire => "from_wire",
            Self::ToWire => "to_wire",
            Self::EarlyWire => "early_wire",
        }
    }

    /// The hook whose program has that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }

    /// What it hangs on.
    #[must_use]
    pub const fn anchor(self) -> Anchor {
        match self {
            Self::Connect4 | Self::Sendmsg4 | Self::Recvmsg4 | Self::Getpeername4 => Anchor::Cgroup,
            Self::Connect6 | Self::Sendmsg6 | Self::Recvmsg6 | Self::Getpeername6 => Anchor::Cgroup,
            Self::SockRelease => Anchor::Cgroup,
            Self::FromPod => Anchor::Device(Role::Pod, Side::Ingress),
            Self::ToPod => Anchor::Device(Role::Pod, Side::Egress),
            Self::FromWire => Anchor::Device(Role::Uplink, Side::Ingress),
            Self::ToWire => Anchor::Device(Role::Uplink, Side::Egress),
            Self::EarlyWire => Anchor::Driver,
        }
    }

    /// The kernel's number for `BPF_LINK_CREATE`.
    #[must_use]
    pub const fn attach_type(self) -> u32 {
        let number = match self {
            Self::Connect4 => attach::BPF_CGROUP_INET4_CONNECT,
            Self::Connect6 => attach::BPF_CGROUP_INET6_CONNECT,
            Self::Sendmsg4 => attach::BPF_CGROUP_UDP4_SENDMSG,
            Self::Sendmsg6 => attach::BPF_CGROUP_UDP6_SENDMSG,
            Self::Recvmsg4 => attach::BPF_CGROUP_UDP4_RECVMSG,
            Self::Recvmsg6 => attach::BPF_CGROUP_UDP6_RECVMSG,
            Self::Getpeername4 => attach::BPF_CGROUP_INET4_GETPEERNAME,
            Self::Getpeername6 => attach::BPF_CGROUP_INET6_GETPEERNAME,
            Self::SockRelease => attach::BPF_CGROUP_INET_SOCK_RELEASE,
            Self::FromPod | Self::FromWire => attach::BPF_TCX_INGRESS,
            Self::ToPod | Self::ToWire => attach::BPF_TCX_EGRESS,
            Self::EarlyWire => attach::BPF_XDP,
        };
        number as u32
    }

    /// Whether the hook is worth a program. IPv6 sockets also talk IPv4 through mapped addresses, so their
    /// hooks are needed in every cluster; what they hold of IPv6 is dead code where IPv6 is not served.
    #[must_use]
    pub const fn needed(self, families: Families, road: SocketRoad, driver: DriverRoad) -> bool {
        match self {
            Self::Connect4 | Self::Sendmsg4 | Self::Recvmsg4 | Self::Getpeername4 => {
                families.ipv4() && !matches!(road, SocketRoad::Off)
            }
            Self::Connect6 | Self::Sendmsg6 | Self::Recvmsg6 | Self::Getpeername6 | Self::SockRelease => {
                !matches!(road, SocketRoad::Off)
            }
            Self::FromPod | Self::ToPod | Self::FromWire | Self::ToWire => true,
            Self::EarlyWire => !matches!(driver, DriverRoad::Off),
        }
    }

    /// The hooks of a device of that role.
    pub fn of_device(role: Role) -> impl Iterator<Item = (Self, Side)> {
        Self::ALL.into_iter().filter_map(move |hook| match hook.anchor() {
            Anchor::Device(of, side) if of == role => Some((hook, side)),
            Anchor::Device(..) | Anchor::Cgroup | Anchor::Driver => None,
        })
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_family_loads_no_socket_program_of_the_other_but_mapped_addresses_keep_theirs() {
        let names = |families, road| -> Vec<_> {
            Hook::ALL
                .into_iter()
                .filter(|hook| hook.needed(families, road, DriverRoad::Off))
                .map(Hook::name)
                .collect()
        };
        let tc = ["from_pod", "to_pod", "from_wire", "to_wire"];
        let six = ["connect6", "sendmsg6", "recvmsg6", "getpeername6", "sock_release"];
        assert_eq!(names(Families::Ipv6, SocketRoad::On), [&six[..], &tc].concat());
        assert_eq!(names(Families::Ipv4, SocketRoad::Host).len(), 13);
        assert_eq!(names(Families::Dual, SocketRoad::Off), tc);
    }
}
