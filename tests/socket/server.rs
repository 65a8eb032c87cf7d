//! Backends: servers that say which address they are. They live as long as the test's process.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use crate::view::View;

/// Longer than anything on loopback takes; a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// A stream server at the n-th address: tells each client its own address and closes.
pub(crate) fn stream(view: View, n: u8) -> SocketAddr {
    listen(view, n, 0)
}

/// The same, but it wants to be asked: with one byte.
pub(crate) fn asked(view: View, n: u8) -> SocketAddr {
    listen(view, n, 1)
}

fn listen(view: View, n: u8, question: usize) -> SocketAddr {
    let listener = TcpListener::bind(view.backend(n)).expect("the address is free");
    let addr = listener.local_addr().expect("a listener has an address");
    thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            // A client that is gone already is the test's business.
            let _ = client.read_exact(&mut vec![0; question]);
            let _ = client.write_all(addr.to_string().as_bytes());
        }
    });
    addr
}

/// A datagram server at the n-th address: answers each datagram with its own address.
pub(crate) fn datagram(view: View, n: u8) -> SocketAddr {
    let socket = UdpSocket::bind(view.backend(n)).expect("the address is free");
    let addr = socket.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(addr.to_string().as_bytes(), client);
        }
    });
    addr
}

/// A stream of a client. A call that no hook answers would otherwise wait for minutes.
pub(crate) fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, PATIENCE)
}

/// Which server a connected stream reached.
pub(crate) fn reached(stream: &mut TcpStream) -> SocketAddr {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("the server says who it is");
    text.parse().expect("the server sends its address")
}

/// A datagram socket of a client.
pub(crate) fn client(view: View) -> UdpSocket {
    let socket = UdpSocket::bind(view.any()).expect("a client can bind");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    socket
}

/// The next answer: which server sent it, and who the application is told it was.
pub(crate) fn answer(socket: &UdpSocket) -> (SocketAddr, SocketAddr) {
    let mut buffer = [0; 64];
    let (len, sender) = socket.recv_from(&mut buffer).expect("the server answers");
    let text = std::str::from_utf8(&buffer[..len]).expect("the server sends text");
    (text.parse().expect("the server sends its address"), sender)
}
