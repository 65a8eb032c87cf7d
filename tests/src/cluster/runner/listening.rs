//! Whether ports are open in the network namespace of a process, from `/proc/PID/net`: nothing has to be sent, so nothing of it
//! shows in what a test counts.

use std::collections::BTreeSet;
use std::fs;

use sluice_lab::Protocol;

/// `TCP_LISTEN` of include/net/tcp_states.h, as /proc prints it.
const LISTEN: &str = "0A";

/// Whether all of these ports are open where the process is. A process that is gone has none open.
pub(super) fn all_open(pid: u32, ports: &[(Protocol, u16)]) -> bool {
    let wanted: BTreeSet<Protocol> = ports.iter().map(|(protocol, _)| *protocol).collect();
    wanted.into_iter().all(|protocol| {
        let open = open_ports(pid, protocol);
        ports.iter().filter(|(other, _)| *other == protocol).all(|(_, port)| open.contains(port))
    })
}

fn open_ports(pid: u32, protocol: Protocol) -> BTreeSet<u16> {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp | Protocol::Icmp => return BTreeSet::new(),
    };
    let read = |table| fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
    tables.into_iter().flat_map(|table| parse(&read(table), protocol)).collect()
}

/// Local ports of a table, without its header.
fn parse(table: &str, protocol: Protocol) -> BTreeSet<u16> {
    let port = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (_, port) = fields.next()?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        let serves = protocol == Protocol::Udp || state == LISTEN;
        serves.then(|| u16::from_str_radix(port, 16).ok()).flatten()
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn only_listening_sockets_and_bound_datagram_sockets_are_open() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n   \
            0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n   \
            1: 0100007F:1F91 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1\n";
        assert_eq!(parse(table, Protocol::Tcp), BTreeSet::from([0x1f90]));
        assert_eq!(parse(table, Protocol::Udp), BTreeSet::from([0x1f90, 0x1f91]));
    }

    #[test]
    fn the_sockets_of_this_process_are_found() {
        let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("[::1]:0").unwrap());
        let (tcp_port, udp_port) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
        let client = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let own = std::process::id();
        assert!(all_open(own, &[(Protocol::Tcp, tcp_port), (Protocol::Udp, udp_port)]));
        assert!(!all_open(
            own,
            &[(Protocol::Tcp, tcp_port), (Protocol::Tcp, client.local_addr().unwrap().port())]
        ));
        assert!(all_open(own, &[]));
    }
}
