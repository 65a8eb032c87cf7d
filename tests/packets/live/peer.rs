//! Servers and clients with real sockets, and what the kernel says of the packets they got. All of it acts in the
//! network namespace of the calling thread.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tests::packet::addr;

/// How long anything may take that should happen at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// Enough for segmentation offload to make packets far above the MTU.
const BULK: usize = 1 << 20;

/// Serves TCP: says who it sees, then sends back what it gets.
fn serve_tcp(at: IpAddr) {
    let listener = TcpListener::bind(SocketAddr::new(at, 8080)).expect("the port is free");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let seen = format!("{}\n", stream.peer_addr().expect("a peer").ip());
                let mut buffer = [0; 65_536];
                if stream.write_all(seen.as_bytes()).is_err() {
                    return;
                }
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..length]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Serves UDP: says who it sees.
fn serve_udp(at: IpAddr) {
    let socket = UdpSocket::bind(SocketAddr::new(at, 8080)).expect("the port is free");
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
        }
    });
}

pub(super) fn serve_both(at: &str) {
    let at: IpAddr = at.parse().expect("an address");
    serve_tcp(at);
    serve_udp(at);
}

/// Connects, from a port if one is given.
pub(super) fn connect(to: &str, from_port: Option<u16>) -> std::io::Result<TcpStream> {
    let to = addr(to);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(port) = from_port {
        socket.set_reuse_address(true)?;
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let mut from = addr(any);
        from.set_port(port);
        socket.bind(&from.into())?;
    }
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads whom the server sees.
pub(super) fn greeting(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        stream.read_exact(&mut byte).expect("the server greets");
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).trim().to_owned()
}

/// Sends a lot both ways; gives whom the server saw.
pub(super) fn bulk(to: &str) -> String {
    let mut stream = connect(to, None).unwrap_or_else(|error| panic!("{to}: {error}"));
    let seen = greeting(&mut stream);
    let sent: Vec<u8> = (0..BULK).map(|index| ((index * 31) >> 3) as u8).collect();
    let mut writer = stream.try_clone().expect("a second handle");
    let data = sent.clone();
    let writing = thread::spawn(move || writer.write_all(&data));
    let mut got = vec![0; BULK];
    stream.read_exact(&mut got).expect("all of it comes back");
    writing.join().expect("no panic").expect("all of it is sent");
    assert!(got == sent, "what comes back is what was sent");
    seen
}

/// Asks by UDP; gives whom the server saw.
pub(super) fn ask(to: &str) -> std::io::Result<String> {
    let any = if addr(to).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(addr(to))?;
    socket.send(b"who am I?")?;
    let mut buffer = [0; 128];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Sends frames out of a device of the thread's namespace as they are.
pub(super) fn send_frames(device: &str, frames: &[Vec<u8>]) {
    // SAFETY: a socket of its own; the address names the device, and each frame lives through its call.
    unsafe {
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        let name = std::ffi::CString::new(device).expect("no zero in it");
        let mut to: libc::sockaddr_ll = std::mem::zeroed();
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = libc::if_nametoindex(name.as_ptr()).cast_signed();
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        for frame in frames {
            let to = (&raw const to).cast();
            let sent = libc::sendto(socket, frame.as_ptr().cast(), frame.len(), 0, to, length);
            assert_eq!(sent, frame.len().cast_signed(), "{}", std::io::Error::last_os_error());
        }
        libc::close(socket);
    }
}

pub(super) fn mac_of(device: &str) -> [u8; 6] {
    let output = std::process::Command::new("ip").args(["-br", "link", "show", device]).output();
    let text = String::from_utf8_lossy(&output.expect("iproute2 is installed").stdout).into_owned();
    let mac =
        text.split_whitespace().find(|word| word.matches(':').count() == 5).expect("a device has an address");
    let bytes: Vec<u8> =
        mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect();
    bytes.try_into().expect("six of them")
}

/// Makes the kernel sum packets before it hands them to the device.
pub(super) fn disable_checksum_offload(device: &str) {
    const SIOCETHTOOL: u64 = 0x8946;
    const ETHTOOL_STXCSUM: u32 = 0x17;
    let mut value = [ETHTOOL_STXCSUM, 0];
    // SAFETY: `ifreq` is plain data, all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *slot = byte.cast_signed();
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the request names a device and points to the two words that this command reads.
    let result = unsafe { libc::ioctl(fd, SIOCETHTOOL, &raw mut request) };
    assert_eq!(result, 0, "{device}: {}", std::io::Error::last_os_error());
}

/// Segments and datagrams of the thread's namespace that were thrown away for their checksum.
pub(super) fn checksum_errors() -> u64 {
    let names = ["/proc/thread-self/net/snmp", "/proc/thread-self/net/snmp6"];
    let [snmp, snmp6] = names.map(|name| std::fs::read_to_string(name).expect("procfs is mounted"));
    let tables: Vec<Vec<&str>> = snmp.lines().map(|line| line.split(' ').collect()).collect();
    let in_tables = tables.chunks(2).flat_map(|table| table[0].iter().zip(&table[1]));
    let in_lines = snmp6.lines().filter_map(|line| line.split_once(char::is_whitespace));
    in_tables
        .map(|(name, count)| (*name, *count))
        .chain(in_lines)
        .filter(|(name, _)| name.ends_with("InCsumErrors"))
        .map(|(_, count)| count.trim().parse::<u64>().expect("a number"))
        .sum()
}
