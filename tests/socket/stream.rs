//! `connect(2)` of stream sockets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    os::fd::AsRawFd,
};

use proxy_common::{Proto, Reason};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{
    room,
    server::{self, PATIENCE},
    view::View,
};

const PORT: u16 = 80;

#[test]
fn a_connection_reaches_a_backend_and_its_peer_is_shown_as_the_frontend() {
    room::run(|room| {
        for view in View::ALL {
            let backend = server::stream(view, 1);
            room.serve(view.frontend(1, PORT), Proto::TCP, &[backend]);
            let frontend = view.named(view.frontend(1, PORT));
            let mut stream = server::connect(frontend).expect("the backend listens");
            assert_eq!(stream.peer_addr().expect("it is connected"), frontend, "{view:?}");
            assert_eq!(server::reached(&mut stream), backend, "{view:?}");
        }
        assert_eq!(room.counters(), BTreeMap::from([(Reason::SocketConnect, 3)]));
    });
}

#[test]
fn connections_spread_evenly_over_all_backends() {
    room::run(|room| {
        for view in View::ALL {
            let backends: Vec<_> = (1..=3).map(|n| server::stream(view, n)).collect();
            room.serve(view.frontend(1, PORT), Proto::TCP, &backends);
            let mut seen = BTreeMap::new();
            for _ in 0..300 {
                let mut stream = server::connect(view.named(view.frontend(1, PORT))).expect("it listens");
                *seen.entry(server::reached(&mut stream)).or_insert(0) += 1;
            }
            assert_eq!(seen.keys().copied().collect::<BTreeSet<_>>(), backends.into_iter().collect());
            // Seven standard deviations (8.2) around a hundred.
            assert!(seen.values().all(|count| (43..=157).contains(count)), "{view:?}: {seen:?}");
        }
    });
}

#[test]
fn a_connection_to_nobodys_address_is_left_alone() {
    room::run(|room| {
        for view in View::ALL {
            let server = server::stream(view, 1);
            // Same address, same port, other protocol.
            room.serve(server, Proto::UDP, &[]);
            let mut stream = server::connect(view.named(server)).expect("it listens");
            assert_eq!(stream.peer_addr().expect("it is connected"), view.named(server));
            assert_eq!(server::reached(&mut stream), server);
        }
        assert_eq!(room.counters(), BTreeMap::from([(Reason::NotAService, 3)]));
    });
}

#[test]
fn a_socket_that_was_refused_by_a_backend_forgets_the_frontend() {
    room::run(|room| {
        for view in View::ALL {
            let (server, mut nobody) = (server::stream(view, 1), view.backend(2));
            nobody.set_port(1);
            room.serve(view.frontend(1, PORT), Proto::TCP, &[nobody]);
            let socket = Socket::new(Domain::for_address(view.any()), Type::STREAM, None).expect("a socket");
            // A blocking call waits as long as for a write.
            socket.set_write_timeout(Some(PATIENCE)).expect("a time-out can be set");
            let refused =
                socket.connect(&view.named(view.frontend(1, PORT)).into()).expect_err("nobody listens");
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
            socket.connect(&view.named(server).into()).expect("it listens");
            let peer = socket.peer_addr().expect("it is connected").as_socket();
            assert_eq!(peer, Some(view.named(server)), "{view:?}");
        }
        assert_eq!(room.counters(), BTreeMap::from([(Reason::NotAService, 3), (Reason::SocketConnect, 3)]));
    });
}

/// A stream socket of the view, before it is connected.
pub(crate) fn unconnected(view: View, protocol: Option<Protocol>) -> Socket {
    let socket = Socket::new(Domain::for_address(view.any()), Type::STREAM, protocol).expect("a socket");
    // A blocking call waits as long as for a write.
    socket.set_write_timeout(Some(PATIENCE)).expect("a time-out can be set");
    socket
}

pub(crate) fn peer(socket: &Socket) -> Option<SocketAddr> {
    socket.peer_addr().ok().and_then(|peer| peer.as_socket())
}

#[test]
fn a_socket_that_does_not_wait_is_connected_in_the_end_and_named_like_any_other() {
    room::run(|room| {
        for view in View::ALL {
            let backend = server::stream(view, 1);
            room.serve(view.frontend(1, PORT), Proto::TCP, &[backend]);
            let frontend = view.named(view.frontend(1, PORT));
            let socket = unconnected(view, None);
            socket.set_nonblocking(true).expect("a socket can be told not to wait");
            match socket.connect(&frontend.into()) {
                Ok(()) => {}
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS), "{view:?}"),
            }
            wait_until_writable(&socket);
            assert!(socket.take_error().expect("a socket can be asked").is_none(), "{view:?}");
            assert_eq!(peer(&socket), Some(frontend), "{view:?}");
            socket.set_nonblocking(false).expect("a socket can be told to wait");
            assert_eq!(server::reached(&mut socket.into()), backend, "{view:?}");
        }
    });
}

fn wait_until_writable(socket: &Socket) {
    let mut events = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::OUT)];
    let patience = rustix::time::Timespec::try_from(PATIENCE).expect("seconds");
    assert_eq!(rustix::event::poll(&mut events, Some(&patience)).expect("poll"), 1, "not in time");
}

#[test]
fn data_that_goes_with_the_connection_goes_to_a_backend() {
    room::run(|room| {
        for view in View::ALL {
            let backend = server::asked(view, 1);
            room.serve(view.frontend(1, PORT), Proto::TCP, &[backend]);
            let frontend = view.named(view.frontend(1, PORT));
            let socket = unconnected(view, None);
            let sent = socket.send_to_with_flags(b"?", &frontend.into(), libc::MSG_FASTOPEN);
            assert_eq!(sent.expect("TCP_FASTOPEN for clients is the kernel's default"), 1, "{view:?}");
            wait_until_writable(&socket);
            assert_eq!(peer(&socket), Some(frontend), "{view:?}");
            assert_eq!(server::reached(&mut socket.into()), backend, "{view:?}");

            let socket = unconnected(view, None);
            let on: libc::c_int = 1;
            // SAFETY: the kernel reads an int that outlives the call.
            let set = unsafe {
                let option = libc::TCP_FASTOPEN_CONNECT;
                let len = size_of::<libc::c_int>() as u32;
                libc::setsockopt(socket.as_raw_fd(), libc::SOL_TCP, option, (&raw const on).cast(), len)
            };
            assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
            socket.connect(&frontend.into()).expect("it waits for the first write, or connects");
            let mut stream: std::net::TcpStream = socket.into();
            std::io::Write::write_all(&mut stream, b"?").expect("now it connects");
            assert_eq!(stream.peer_addr().expect("it is connected"), frontend, "{view:?}");
            assert_eq!(server::reached(&mut stream), backend, "{view:?}");
        }
    });
}

#[test]
fn a_stream_that_disconnects_may_connect_to_the_next_service() {
    room::run(|room| {
        for view in View::ALL {
            let backends = [1, 2].map(|n| server::stream(view, n));
            let frontends = [(1, backends[0]), (2, backends[1])].map(|(n, backend)| {
                room.serve(view.frontend(n, PORT), Proto::TCP, &[backend]);
                view.named(view.frontend(n, PORT))
            });
            let socket = unconnected(view, None);
            for frontend in [frontends[0], frontends[1], frontends[0]] {
                socket.connect(&frontend.into()).expect("it listens");
                assert_eq!(peer(&socket), Some(frontend), "{view:?}");
                rustix::net::connect_unspec(&socket).expect("a stream can be disconnected");
                assert_eq!(peer(&socket), None, "{view:?}");
            }
        }
    });
}

#[test]
fn a_ring_connects_as_the_call_does() {
    room::run(|room| {
        let mut ring = match io_uring::IoUring::new(2) {
            Ok(ring) => ring,
            // sysctl kernel.io_uring_disabled, or a kernel without CONFIG_IO_URING.
            Err(error) => return println!("skipped: no io_uring here: {error}"),
        };
        for view in View::ALL {
            let backend = server::stream(view, 1);
            room.serve(view.frontend(1, PORT), Proto::TCP, &[backend]);
            let frontend = view.named(view.frontend(1, PORT));
            let (socket, to) = (unconnected(view, None), SockAddr::from(frontend));
            let fd = io_uring::types::Fd(socket.as_raw_fd());
            let entry = io_uring::opcode::Connect::new(fd, to.as_ptr().cast(), to.len()).build();
            // SAFETY: the socket and the address outlive the call that waits for the answer.
            unsafe { ring.submission().push(&entry) }.expect("the ring is empty");
            ring.submit_and_wait(1).expect("the ring works");
            let results: Vec<i32> = ring.completion().map(|entry| entry.result()).collect();
            assert_eq!(results, [0], "{view:?}");
            assert_eq!(peer(&socket), Some(frontend), "{view:?}");
            assert_eq!(server::reached(&mut socket.into()), backend, "{view:?}");
        }
    });
}

#[test]
fn multipath_tcp_is_tcp_to_a_service() {
    room::run(|room| {
        for view in View::ALL {
            let backend = server::stream(view, 1);
            room.serve(view.frontend(1, PORT), Proto::TCP, &[backend]);
            let frontend = view.named(view.frontend(1, PORT));
            let socket = unconnected(view, Some(Protocol::MPTCP));
            socket.connect(&frontend.into()).expect("the backend listens");
            assert_eq!(peer(&socket), Some(frontend), "{view:?}: not the subflow's");
            assert_eq!(server::reached(&mut socket.into()), backend, "{view:?}");
            let socket = unconnected(view, Some(Protocol::MPTCP));
            socket.connect(&view.named(backend).into()).expect("the backend listens");
            assert_eq!(peer(&socket), Some(view.named(backend)), "{view:?}: no Service, no other name");
        }
    });
}
