//! Datagrams by every call that moves them: many at once, peeked at, refused, shared by several sockets.

use std::{
    io,
    mem::{MaybeUninit, zeroed},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};

use proxy_common::Proto;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::{
    room::{self, Room},
    server::{self, PATIENCE, answer, client},
    view::View,
};

const PORT: u16 = 53;

fn serve(room: &mut Room, view: View, n: u8, backends: &[SocketAddr]) -> SocketAddr {
    room.serve(view.frontend(n, PORT), Proto::UDP, backends);
    view.named(view.frontend(n, PORT))
}

/// One datagram to each address, in one call.
fn send_many(socket: &UdpSocket, to: &[SocketAddr]) {
    let names: Vec<SockAddr> = to.iter().map(|to| SockAddr::from(*to)).collect();
    let mut vector = libc::iovec { iov_base: b"?".as_ptr().cast_mut().cast(), iov_len: 1 };
    // SAFETY: plain old data, of which zeros are a value.
    let mut messages: Vec<libc::mmsghdr> = names.iter().map(|_| unsafe { zeroed() }).collect();
    for (message, name) in messages.iter_mut().zip(&names) {
        message.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
        message.msg_hdr.msg_namelen = name.len();
        message.msg_hdr.msg_iov = &raw mut vector;
        message.msg_hdr.msg_iovlen = 1;
    }
    let count = u32::try_from(messages.len()).expect("few");
    // SAFETY: every header names an address and a vector that outlive the call; the kernel reads them.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    assert_eq!(sent, i32::try_from(to.len()).expect("few"), "{}", io::Error::last_os_error());
}

/// The senders of so many datagrams, received in one call.
fn receive_many(socket: &UdpSocket, count: usize) -> Vec<SocketAddr> {
    let mut buffers = vec![[0_u8; 64]; count];
    // SAFETY: plain old data, of which zeros are a value.
    let mut names: Vec<libc::sockaddr_storage> = buffers.iter().map(|_| unsafe { zeroed() }).collect();
    let mut vectors: Vec<libc::iovec> = buffers
        .iter_mut()
        .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() })
        .collect();
    // SAFETY: plain old data, of which zeros are a value.
    let mut messages: Vec<libc::mmsghdr> = names.iter().map(|_| unsafe { zeroed() }).collect();
    for ((message, name), vector) in messages.iter_mut().zip(&mut names).zip(&mut vectors) {
        message.msg_hdr.msg_name = (name as *mut libc::sockaddr_storage).cast();
        message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
        message.msg_hdr.msg_iov = vector;
        message.msg_hdr.msg_iovlen = 1;
    }
    let wanted = u32::try_from(count).expect("few");
    // SAFETY: every header names a buffer and an address that outlive the call, and their sizes.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            wanted,
            libc::MSG_WAITFORONE,
            std::ptr::null_mut(),
        )
    };
    assert!(received > 0, "{}", io::Error::last_os_error());
    let received = usize::try_from(received).expect("positive");
    names[..received]
        .iter()
        .zip(&messages)
        .map(|(name, message)| decode(name, message.msg_hdr.msg_namelen))
        .collect()
}

fn decode(name: &libc::sockaddr_storage, len: u32) -> SocketAddr {
    // SAFETY: the kernel wrote an address of that length.
    let (_, addr) = unsafe {
        SockAddr::try_init(|storage, size| {
            std::ptr::copy_nonoverlapping(
                (&raw const *name).cast::<u8>(),
                storage.cast::<u8>(),
                len as usize,
            );
            *size = len;
            Ok(())
        })
    }
    .expect("an address");
    addr.as_socket().expect("of a family that we asked")
}

#[test]
fn many_datagrams_in_one_call_go_to_many_services_and_come_back_from_them() {
    room::run(|room| {
        for view in View::ALL {
            let servers = [1, 2, 3].map(|n| server::datagram(view, n));
            let frontends: Vec<_> =
                (1..).zip(servers).map(|(n, server)| serve(room, view, n, &[server])).collect();
            let socket = client(view);
            send_many(&socket, &frontends);
            let mut senders = Vec::new();
            while senders.len() < frontends.len() {
                senders.extend(receive_many(&socket, frontends.len()));
            }
            senders.sort_unstable();
            assert_eq!(senders, frontends, "{view:?}");
        }
    });
}

#[test]
fn a_datagram_that_is_peeked_at_comes_from_the_frontend_each_time() {
    room::run(|room| {
        for view in View::ALL {
            let backend = server::datagram(view, 1);
            let frontend = serve(room, view, 1, &[backend]);
            let (free, connected) = (client(view), client(view));
            connected.connect(frontend).expect("a Service with backends");
            free.send_to(b"?", frontend).expect("a Service with backends");
            connected.send(b"?").expect("it is connected");
            for socket in [free, connected] {
                let mut buffer = [0; 64];
                let [once, twice] = [(); 2].map(|()| socket.peek_from(&mut buffer).expect("an answer").1);
                assert_eq!([once, twice], [frontend; 2], "{view:?}");
                assert_eq!(answer(&socket), (backend, frontend), "{view:?}");
            }
        }
    });
}

#[test]
fn two_services_with_the_same_backends_answer_one_socket_each_in_its_own_name() {
    room::run(|room| {
        for view in View::ALL {
            let backends: Vec<_> = (1..=3).map(|n| server::datagram(view, n)).collect();
            let frontends = [1, 2, 3].map(|n| serve(room, view, n, &backends));
            for _ in 0..20 {
                let socket = client(view);
                // All of them before any answer is read: what is sent last explains nothing.
                for to in frontends {
                    socket.send_to(b"?", to).expect("a Service with backends");
                }
                let mut seen: Vec<_> = frontends.iter().map(|_| answer(&socket)).collect();
                seen.sort_unstable_by_key(|(_, frontend)| *frontend);
                assert_eq!(
                    seen.iter().map(|(_, frontend)| *frontend).collect::<Vec<_>>(),
                    frontends,
                    "{view:?}"
                );
                seen.sort_unstable();
                assert_eq!(
                    seen.iter().map(|(backend, _)| *backend).collect::<Vec<_>>(),
                    backends,
                    "{view:?}"
                );
            }
        }
    });
}

/// A port of the view's first backend address where nobody listens.
fn nobody(view: View) -> SocketAddr {
    let mut at = view.backend(1);
    at.set_port(1);
    at
}

#[test]
fn a_connected_socket_learns_that_its_backend_refuses() {
    room::run(|room| {
        for view in View::ALL {
            let frontend = serve(room, view, 1, &[nobody(view)]);
            let socket = client(view);
            socket.connect(frontend).expect("a Service with backends");
            socket.send(b"?").expect("it is connected");
            let refused = socket.recv(&mut [0; 8]).expect_err("nobody listens");
            assert_eq!(refused.raw_os_error(), Some(libc::ECONNREFUSED), "{view:?}");
            assert_eq!(socket.peer_addr().expect("it is still connected"), frontend, "{view:?}");
        }
    });
}

/// Asks for errors on an unconnected socket, too (ip(7), ipv6(7)); an IPv6 socket that talks IPv4 has to ask both.
fn want_errors(socket: &UdpSocket, view: View) {
    let v4 = (libc::SOL_IP, libc::IP_RECVERR);
    let v6 = (libc::SOL_IPV6, libc::IPV6_RECVERR);
    let options = match view {
        View::V4 => vec![v4],
        View::V6 => vec![v6],
        View::Mapped => vec![v4, v6],
    };
    for (level, option) in options {
        let on: libc::c_int = 1;
        let len = size_of::<libc::c_int>() as u32;
        // SAFETY: the kernel reads an int that outlives the call.
        let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), len) };
        assert_eq!(set, 0, "{}", io::Error::last_os_error());
    }
}

/// The original destination of the datagram at the head of the error queue.
fn error_queue(socket: &UdpSocket) -> io::Result<SocketAddr> {
    // SAFETY: plain old data, of which zeros are a value.
    let (mut name, mut message): (libc::sockaddr_storage, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    let (mut control, mut buffer) = ([MaybeUninit::<u64>::uninit(); 64], [0_u8; 64]);
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = size_of_val(&name) as u32;
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the header names buffers that outlive the call, and their sizes.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_ERRQUEUE) };
    if received < 0 { Err(io::Error::last_os_error()) } else { Ok(decode(&name, message.msg_namelen)) }
}

#[test]
fn the_error_queue_names_the_backend_and_the_socket_goes_on() {
    room::run(|room| {
        for view in View::ALL {
            let backend = server::datagram(view, 2);
            let (dead, alive) = (serve(room, view, 1, &[nobody(view)]), serve(room, view, 2, &[backend]));
            let socket = client(view);
            want_errors(&socket, view);
            socket.send_to(b"?", dead).expect("a Service with backends");
            let refused = socket.recv_from(&mut [0; 8]).expect_err("nobody listens");
            assert_eq!(refused.raw_os_error(), Some(libc::ECONNREFUSED), "{view:?}");
            // No hook sees this call: a limit of the road, and harmless.
            let named = error_queue(&socket).expect("what was refused is in the queue");
            assert_eq!(named, view.named(nobody(view)), "{view:?}");
            socket.send_to(b"?", alive).expect("a Service with backends");
            assert_eq!(answer(&socket), (backend, alive), "{view:?}");
        }
    });
}

/// A datagram socket that shares its port.
fn sharing(at: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, None).expect("a socket");
    socket.set_reuse_port(true).expect("SO_REUSEPORT");
    socket.bind(&at.into()).expect("the port is shared");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    socket.into()
}

#[test]
fn sockets_that_share_a_port_each_talk_to_a_service_of_their_own() {
    room::run(|room| {
        for view in View::ALL {
            let servers = [1, 2].map(|n| server::datagram(view, n));
            let frontends =
                [(1, servers[0]), (2, servers[1])].map(|(n, server)| serve(room, view, n, &[server]));
            let first = sharing(view.any());
            let second =
                sharing(SocketAddr::new(view.any().ip(), first.local_addr().expect("it is bound").port()));
            for (socket, frontend) in [(&first, frontends[0]), (&second, frontends[1])] {
                socket.connect(frontend).expect("a Service with backends");
            }
            for _ in 0..5 {
                for (socket, server, frontend) in
                    [(&first, servers[0], frontends[0]), (&second, servers[1], frontends[1])]
                {
                    socket.send(b"?").expect("it is connected");
                    assert_eq!(answer(socket), (server, frontend), "{view:?}");
                }
            }
        }
    });
}

#[test]
fn servers_that_share_a_port_are_one_backend() {
    room::run(|room| {
        for view in View::ALL {
            let first = sharing(view.backend(1));
            let backend = first.local_addr().expect("it is bound");
            for server in [first, sharing(backend)] {
                server.set_read_timeout(None).expect("a server waits");
                std::thread::spawn(move || {
                    while let Ok((_, client)) = server.recv_from(&mut [0; 8]) {
                        let _ = server.send_to(backend.to_string().as_bytes(), client);
                    }
                });
            }
            let frontend = serve(room, view, 1, &[backend]);
            for _ in 0..20 {
                let socket = client(view);
                socket.send_to(b"?", frontend).expect("a Service with backends");
                assert_eq!(answer(&socket), (backend, frontend), "{view:?}");
            }
        }
    });
}

#[test]
fn a_socket_that_connects_from_one_service_to_the_next_sees_each_in_turn() {
    room::run(|room| {
        for view in View::ALL {
            let servers = [1, 2].map(|n| server::datagram(view, n));
            let frontends =
                [(1, servers[0]), (2, servers[1])].map(|(n, server)| serve(room, view, n, &[server]));
            let socket = client(view);
            for turn in [0, 1, 0] {
                socket.connect(frontends[turn]).expect("a Service with backends");
                assert_eq!(socket.peer_addr().expect("it is connected"), frontends[turn], "{view:?}");
                socket.send(b"?").expect("it is connected");
                assert_eq!(answer(&socket), (servers[turn], frontends[turn]), "{view:?}");
            }
            rustix::net::connect_unspec(&socket).expect("it is connected");
            assert!(socket.peer_addr().is_err(), "{view:?}: it is disconnected");
            socket.connect(frontends[1]).expect("a Service with backends");
            assert_eq!(socket.peer_addr().expect("it is connected again"), frontends[1], "{view:?}");
        }
    });
}

#[test]
fn an_ipv6_socket_may_name_its_peer_as_ipv4_does() {
    room::run(|room| {
        let backend = server::datagram(View::V4, 1);
        let frontend = serve(room, View::V4, 1, &[backend]);
        let shown = View::Mapped.named(frontend);
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        socket.connect(&frontend.into()).expect("udpv6_pre_connect takes AF_INET");
        let socket: UdpSocket = socket.into();
        assert_eq!(socket.peer_addr().expect("it is connected"), shown);
        socket.send(b"?").expect("it is connected");
        assert_eq!(answer(&socket), (backend, shown));
    });
}

#[test]
fn a_socket_for_ipv6_only_reaches_no_ipv4_service_and_every_ipv6_one() {
    room::run(|room| {
        let backend = server::datagram(View::V6, 1);
        let v4 = serve(room, View::Mapped, 1, &[server::datagram(View::V4, 1)]);
        let v6 = serve(room, View::V6, 1, &[backend]);
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).expect("a socket");
        socket.set_only_v6(true).expect("IPV6_V6ONLY");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        for result in [socket.connect(&v4.into()), socket.send_to(b"?", &v4.into()).map(drop)] {
            let error = result.expect_err("not an IPv6 address").raw_os_error();
            assert_eq!(error, Some(libc::ENETUNREACH), "as without us");
        }
        let socket: UdpSocket = socket.into();
        socket.connect(v6).expect("a Service with backends");
        assert_eq!(socket.peer_addr().expect("it is connected"), v6);
        socket.send(b"?").expect("it is connected");
        assert_eq!(answer(&socket), (backend, v6));
    });
}
