//! Source ranges of load balancers' addresses (items 81, 82): a socket of the node has the node's address, one of
//! a pod is left to the packet road.

use std::{collections::BTreeMap, io, net::IpAddr, net::SocketAddr};

use proxy_common::{Frontend, FrontendFlags, Proto, Reason};

use crate::{
    room::{self, Place, Room},
    server::{self, client},
    view::View,
};

const PORT: u16 = 80;
const NODE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const OTHER: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

fn of(view: View, [v4, v6]: [&str; 2]) -> IpAddr {
    let ip = if view.frontend(1, PORT).is_ipv4() { v4 } else { v6 };
    ip.parse().expect("an address")
}

fn ranged(room: &mut Room, at: SocketAddr, backends: &[SocketAddr]) -> Frontend {
    let frontend = room.service(backends);
    let flags = FrontendFlags::EXTERNAL.with(FrontendFlags::RANGES);
    let frontend = Frontend { flags, ..frontend };
    for proto in [Proto::TCP, Proto::UDP] {
        room.put(at, proto, frontend);
    }
    frontend
}

/// The error of a stream's `connect`, a datagram socket's `connect`, and its `sendto`.
fn errors(view: View, to: SocketAddr) -> [Option<i32>; 3] {
    let to = view.named(to);
    let error = |result: io::Result<()>| result.err().and_then(|error| error.raw_os_error());
    [
        error(server::connect(to).map(drop)),
        error(client(view).connect(to)),
        error(client(view).send_to(b"?", to).map(drop)),
    ]
}

#[test]
fn item_81_a_socket_of_the_node_fails_unless_a_range_holds_the_nodes_address() {
    room::run_with(
        Place::Node,
        |_| {},
        |room| {
            room.node_is(NODE[0].parse().expect("an address"), NODE[1].parse().expect("an address"));
            for view in View::ALL {
                let at = view.frontend(1, PORT);
                let frontend = ranged(room, at, &[]);
                room.admit(frontend.service, of(view, OTHER));
                assert_eq!(
                    errors(view, at),
                    [Some(libc::EHOSTUNREACH); 3],
                    "{view:?}: also without backends"
                );
                let backend = server::stream(view, 1);
                let frontend = ranged(room, at, &[backend]);
                room.admit(frontend.service, of(view, NODE));
                assert_eq!(errors(view, at), [None; 3], "{view:?}");
            }
            let expected = [(Reason::SourceRange, 9), (Reason::SocketConnect, 6), (Reason::SocketSend, 3)];
            assert_eq!(room.counters(), BTreeMap::from(expected));
        },
    );
}

#[test]
fn a_socket_of_a_pod_is_left_to_the_road_that_sees_its_address() {
    room::run(|room| {
        for view in View::ALL {
            // Somebody listens at the frontend itself, so the untranslated call succeeds.
            let at = server::stream(view, 1);
            let frontend = ranged(room, at, &[]);
            room.admit(frontend.service, of(view, OTHER));
            assert_eq!(errors(view, at), [None; 3], "{view:?}");
        }
        assert_eq!(room.counters(), BTreeMap::from([(Reason::NotAService, 9)]));
    });
}
