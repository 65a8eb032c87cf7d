//! Calls that get no backend: refused at once, or failed without a reason for the client to guess.

use std::{collections::BTreeMap, io, net::SocketAddr};

use proxy_common::{ClientRule, Frontend, Proto, Reason, Segment};

use crate::{
    room::{self, LOCAL_OR_DROP, Place, Room},
    server::{self, client},
    view::View,
};

const PORT: u16 = 80;

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

const REFUSED: [Option<i32>; 3] = [Some(libc::ECONNREFUSED); 3];
const DENIED: [Option<i32>; 3] = [Some(libc::EHOSTUNREACH); 3];

fn put_both(room: &mut Room, at: SocketAddr, frontend: Frontend) {
    for proto in [Proto::TCP, Proto::UDP] {
        room.put(at, proto, frontend);
    }
}

#[test]
fn without_backends_every_call_is_refused_at_once() {
    room::run(|room| {
        for view in View::ALL {
            let frontend = room.service(&[]);
            put_both(room, view.frontend(1, PORT), frontend);
            assert_eq!(errors(view, view.frontend(1, PORT)), REFUSED, "item 90, {view:?}");
        }
        assert_eq!(room.counters(), BTreeMap::from([(Reason::NoEndpoints, 9)]));
    });
}

#[test]
fn a_socket_is_refused_when_the_last_backend_goes_and_served_when_one_comes() {
    room::run(|room| {
        for view in View::ALL {
            let (at, backend) = (view.frontend(1, PORT), server::datagram(view, 1));
            let frontend = room.serve(at, Proto::UDP, &[backend]);
            let socket = client(view);
            let ask = || socket.send_to(b"?", view.named(at)).map(|_| server::answer(&socket));
            let answered = (backend, view.named(at));
            assert_eq!(ask().expect("item 95: a backend"), answered, "{view:?}");
            room.put(at, Proto::UDP, Frontend { cluster: Segment::EMPTY, generation: 2, ..frontend });
            assert_eq!(
                ask().expect_err("item 95: none").raw_os_error(),
                Some(libc::ECONNREFUSED),
                "{view:?}"
            );
            room.put(at, Proto::UDP, Frontend { generation: 3, ..frontend });
            assert_eq!(ask().expect("item 95: a backend again"), answered, "{view:?}");
        }
    });
}

#[test]
fn without_local_backends_a_local_policy_fails_every_call() {
    room::run(|room| {
        for view in View::ALL {
            let elsewhere = server::stream(view, 1);
            let frontend = room.service(&[elsewhere]);
            put_both(room, view.frontend(1, PORT), Frontend { rules: LOCAL_OR_DROP, ..frontend });
            assert_eq!(errors(view, view.frontend(1, PORT)), DENIED, "items 50 and 94, {view:?}");
        }
        assert_eq!(room.counters(), BTreeMap::from([(Reason::NoLocalEndpoints, 9)]));
    });
}

#[test]
fn an_unknown_port_of_a_cluster_address_is_refused() {
    room::run(|room| {
        for view in View::ALL {
            room.wildcard(view.frontend(1, PORT));
            assert_eq!(errors(view, view.frontend(1, 81)), REFUSED, "item 52, {view:?}");
            room.service_ranges();
            assert_eq!(errors(view, view.frontend(1, 81)), REFUSED, "item 52 with known ranges, {view:?}");
        }
        assert_eq!(room.counters(), BTreeMap::from([(Reason::UnknownPort, 18)]));
    });
}

#[test]
fn a_cluster_address_of_nobody_fails_every_call_and_an_address_outside_of_the_ranges_none() {
    room::run(|room| {
        room.service_ranges();
        for view in View::ALL {
            assert_eq!(errors(view, view.frontend(9, PORT)), DENIED, "item 53, {view:?}");
            let server = server::stream(view, 1);
            // Where the ranges are known, nobody asks further about an address outside of them.
            room.wildcard(server);
            assert_eq!(errors(view, server), [None; 3], "{view:?}");
        }
        let expected = [(Reason::UnallocatedAddress, 9), (Reason::NotAService, 9)];
        assert_eq!(room.counters(), BTreeMap::from(expected));
    });
}

#[test]
fn a_datagram_socket_may_connect_to_port_zero_to_learn_its_own_address() {
    room::run(|room| {
        for view in View::ALL {
            room.wildcard(view.frontend(1, PORT));
            client(view).connect(view.named(view.frontend(1, 0))).expect("nothing is ever sent");
        }
        assert_eq!(room.counters(), BTreeMap::from([(Reason::NoPorts, 3)]));
    });
}

/// Nodes are refused, pods are dropped.
const BY_CLASS: [ClientRule; 3] =
    [ClientRule::DROP_IF_EMPTY, ClientRule::CLUSTER, ClientRule::LOCAL.with(ClientRule::MASQUERADE)];

#[test]
fn a_socket_of_a_pod_gets_the_rule_for_pods() {
    room::run_with(
        Place::Pod,
        |_| {},
        |room| {
            let frontend = room.service(&[]);
            put_both(room, View::V4.frontend(1, PORT), Frontend { rules: BY_CLASS, ..frontend });
            assert_eq!(errors(View::V4, View::V4.frontend(1, PORT)), DENIED);
        },
    );
}

#[test]
fn a_socket_of_the_node_gets_the_rule_for_the_node() {
    room::run_with(
        Place::Node,
        |_| {},
        |room| {
            let frontend = room.service(&[]);
            put_both(room, View::V4.frontend(1, PORT), Frontend { rules: BY_CLASS, ..frontend });
            assert_eq!(errors(View::V4, View::V4.frontend(1, PORT)), REFUSED);
        },
    );
}

#[test]
fn where_only_the_nodes_sockets_are_served_a_pods_are_left_alone() {
    room::run_with(
        Place::Pod,
        |config| config.host_sockets_only = 1,
        |room| {
            for view in View::ALL {
                let frontend = room.service(&[]);
                let server = server::stream(view, 1);
                put_both(room, server, frontend);
                assert_eq!(errors(view, server), [None; 3], "{view:?}");
            }
            assert_eq!(room.counters(), BTreeMap::from([(Reason::NotAService, 9)]));
        },
    );
}

#[test]
fn where_only_the_nodes_sockets_are_served_the_nodes_are() {
    room::run_with(
        Place::Node,
        |config| config.host_sockets_only = 1,
        |room| {
            for view in View::ALL {
                let frontend = room.service(&[]);
                put_both(room, view.frontend(1, PORT), frontend);
                assert_eq!(errors(view, view.frontend(1, PORT)), REFUSED, "{view:?}");
            }
        },
    );
}

#[test]
fn a_family_that_is_not_served_is_left_alone() {
    room::run_with(
        Place::Pod,
        |config| config.ipv4 = 0,
        |room| {
            for view in View::ALL {
                let frontend = room.service(&[]);
                let server = server::stream(view, 1);
                put_both(room, server, frontend);
                let expected = if view == View::V6 { REFUSED } else { [None; 3] };
                assert_eq!(errors(view, server), expected, "{view:?}");
            }
            assert_eq!(room.counters(), BTreeMap::from([(Reason::NotIp, 6), (Reason::NoEndpoints, 3)]));
        },
    );
}

#[test]
fn a_segment_outside_of_the_array_fails_every_call() {
    room::run(|room| {
        for view in View::ALL {
            let frontend = room.service(&[]);
            let broken = Frontend { cluster: Segment { start: 1 << 20, len: 2 }, ..frontend };
            put_both(room, view.frontend(1, PORT), broken);
            assert_eq!(errors(view, view.frontend(1, PORT)), DENIED, "{view:?}");
        }
        assert_eq!(room.counters(), BTreeMap::from([(Reason::BadSegment, 9)]));
    });
}
