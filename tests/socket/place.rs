//! Sockets and processes that move: the socket's own namespace and the control group it was made in count, wherever its
//! user is.

use std::{fs, net::SocketAddr, thread, time::Duration};

use proxy_common::{ClientRule, Frontend, Proto};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::{
    room::{self, Place, move_to},
    server::{self, answer, client},
    view::View,
};

const PORT: u16 = 80;

#[test]
fn a_socket_that_is_used_in_another_namespace_stays_one_of_its_own() {
    room::run_with(
        Place::Node,
        |_| {},
        |room| {
            for view in View::ALL {
                let backend = server::datagram(view, 1);
                let frontend = room.service(&[backend]);
                // Pods would be dropped; the socket is the node's, though its user is not.
                let rules = [
                    ClientRule::LOCAL.with(ClientRule::DROP_IF_EMPTY),
                    ClientRule::CLUSTER,
                    ClientRule::CLUSTER,
                ];
                room.put(view.frontend(1, PORT), Proto::UDP, Frontend { rules, ..frontend });
                let to = view.named(view.frontend(1, PORT));
                let passed = client(view);
                let seen = elsewhere(move || {
                    passed.send_to(b"?", to).expect("a socket of the node");
                    let first = answer(&passed);
                    passed.connect(to).expect("a socket of the node");
                    passed.send(b"?").expect("it is connected");
                    let own = client(view).send_to(b"?", to).expect_err("a socket of another namespace");
                    (first, answer(&passed), own.raw_os_error())
                });
                assert_eq!(seen, ((backend, to), (backend, to), Some(libc::EHOSTUNREACH)), "{view:?}");
            }
        },
    );
}

/// Runs on a thread in a network namespace of its own, as a process does that got a socket over SCM_RIGHTS.
fn elsewhere<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let moved = thread::spawn(|| {
        // SAFETY: only the namespace of this thread changes, no descriptor is shared or closed by it.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("needs root");
        run()
    });
    moved.join().expect("the thread ends well")
}

/// A socket that was there before is answered, and a new one as it is wanted.
fn are_asked(old: &std::net::UdpSocket, view: View, to: SocketAddr, new: Heard) {
    for (socket, wanted) in [(old, Heard::Answer), (&client(view), new)] {
        let patience = match wanted {
            Heard::Answer => server::PATIENCE,
            Heard::Nothing => Duration::from_millis(200),
        };
        socket.set_read_timeout(Some(patience)).expect("a time-out can be set");
        let answered = socket.send_to(b"?", to).is_ok() && socket.recv_from(&mut [0; 64]).is_ok();
        let heard = if answered { Heard::Answer } else { Heard::Nothing };
        assert_eq!(heard, wanted, "{view:?}");
    }
}

/// What comes of a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Heard {
    Answer,
    Nothing,
}

#[test]
fn a_socket_stays_with_the_control_group_that_it_was_made_in() {
    room::run(|room| {
        let inside = room.cgroup();
        let outside = inside.parent().expect("a control group has a root").to_path_buf();
        for view in View::ALL {
            move_to(&inside);
            room.serve(view.frontend(1, PORT), Proto::UDP, &[server::datagram(view, 1)]);
            let to = view.named(view.frontend(1, PORT));
            let socket = client(view);
            are_asked(&socket, view, to, Heard::Answer);
            move_to(&outside);
            are_asked(&socket, view, to, Heard::Nothing);
        }
    });
}

#[test]
fn a_control_group_below_is_served_also_behind_a_namespace_of_its_own() {
    room::run(|room| {
        let pod = room.cgroup().join("pod");
        fs::create_dir(&pod).expect("a control group can be made");
        move_to(&pod);
        let frontends = [(View::V4, 1), (View::V6, 1), (View::Mapped, 2)].map(|(view, n)| {
            let backend = server::stream(view, n);
            room.serve(view.frontend(n, PORT), Proto::TCP, &[backend]);
            (view.named(view.frontend(n, PORT)), backend)
        });
        let reached = thread::spawn(move || {
            // SAFETY: only this thread's view of the hierarchy changes.
            unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) }.expect("needs root");
            assert_eq!(
                fs::read_to_string("/proc/thread-self/cgroup").expect("procfs").lines().last(),
                Some("0::/")
            );
            frontends.map(|(to, _)| server::reached(&mut server::connect(to).expect("it listens")))
        });
        assert_eq!(reached.join().expect("the thread ends well"), frontends.map(|(_, backend)| backend));
        move_to(&room.cgroup());
        fs::remove_dir(&pod).expect("nobody is inside");
    });
}
