//! The chains of the node's firewall, of which the names say whose rules are there: those of nf_tables by netlink, those of
//! the older ip_tables by a socket option. Reads only; knows nobody's names.

use std::{collections::BTreeSet, fs, io, mem};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_GETCHAIN` of the kernel's `nfnetlink.h` and `nf_tables.h`.
const GET_CHAIN: u16 = (10 << 8) | 4;
const NLM_F_REQUEST_DUMP: u16 = 0x1 | 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NFTA_CHAIN_TABLE`, `NFTA_CHAIN_NAME`.
const TABLE: u16 = 1;
const NAME: u16 = 3;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADERS: usize = 16 + 4;

/// A chain of rules.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Chain {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
}

/// Every chain of nf_tables in the network namespace of this process; none where the kernel has no nf_tables.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`.
pub fn chains() -> io::Result<BTreeSet<Chain>> {
    let netfilter = Some(netlink::NETFILTER);
    let socket = match socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, netfilter) {
        Ok(socket) => socket,
        Err(rustix::io::Errno::PROTONOSUPPORT) => return Ok(BTreeSet::new()),
        Err(error) => return Err(error.into()),
    };
    send(&socket, &question(), SendFlags::empty())?;
    let mut chains = BTreeSet::new();
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let (length, _) = recv(&socket, &mut buffer, RecvFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((kind, message)) = next(&mut rest) {
            match kind {
                NLMSG_DONE => return Ok(chains),
                NLMSG_ERROR => return refused(message).map(|()| chains),
                _ => chains.extend(chain(message)),
            }
        }
    }
}

fn question() -> [u8; HEADERS] {
    let mut message = [0; HEADERS];
    message[..4].copy_from_slice(&(HEADERS as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&GET_CHAIN.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    message
}

/// Takes a message off the front; its kind and what follows `struct nlmsghdr`.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?);
    let message = rest.get(16..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, message))
}

fn refused(message: &[u8]) -> io::Result<()> {
    let code = message.get(..4).and_then(|four| four.try_into().ok()).map_or(0, i32::from_ne_bytes);
    match -code {
        // No nf_tables.
        0 | libc::EINVAL | libc::EOPNOTSUPP => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn chain(message: &[u8]) -> Option<Chain> {
    let mut rest = message.get(4..)?;
    let (mut table, mut name) = (None, None);
    while let Some(header) = rest.get(..4) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        let value = rest.get(4..length)?;
        let text = || String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
        match kind {
            TABLE => table = Some(text()),
            NAME => name = Some(text()),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Chain { table: table?, name: name? })
}

/// Which of these names occur among the chains of a table of the older ip_tables. A chain begins with an entry whose target
/// is `ERROR` and holds the name, so a name that is looked for is found among the bytes of the entries.
///
/// # Errors
/// As getsockopt(2) gives them; a kernel without ip_tables, or without the table, has no names.
pub fn older_chains<'a>(table: &str, names: &[&'a str]) -> io::Result<BTreeSet<&'a str>> {
    // `IPT_SO_GET_INFO`, `IPT_SO_GET_ENTRIES`: a name of 32 bytes; five hooks, five underflows and three numbers, or the size.
    const INFO: libc::c_int = 64;
    const ENTRIES: libc::c_int = 65;
    const NAME: usize = 32;
    const SIZE: usize = NAME + (1 + 5 + 5 + 1) * 4;
    // Asking for a table that is not there would make the kernel load it.
    let tables = fs::read_to_string("/proc/self/net/ip_tables_names").unwrap_or_default();
    if !tables.lines().any(|line| line == table) {
        return Ok(BTreeSet::new());
    }
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(rustix::net::ipproto::RAW),
    )?;
    let mut info = vec![0_u8; SIZE + 4];
    info[..table.len()].copy_from_slice(table.as_bytes());
    match option(&socket, INFO, &mut info) {
        Ok(()) => {}
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOPROTOOPT | libc::ENOENT)) => {
            return Ok(BTreeSet::new());
        }
        Err(error) => return Err(error),
    }
    let size = info.get(SIZE..SIZE + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_ne_bytes);
    // `struct ipt_get_entries`: name, size, and the entries, aligned to eight.
    let header = (NAME + mem::size_of::<u32>()).next_multiple_of(8);
    let mut entries = vec![0_u8; header + size as usize];
    entries[..table.len()].copy_from_slice(table.as_bytes());
    entries[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
    option(&socket, ENTRIES, &mut entries)?;
    let holds = |name: &&str| {
        let name = [name.as_bytes(), b"\0"].concat();
        entries.windows(name.len()).any(|bytes| bytes == name)
    };
    Ok(names.iter().copied().filter(|name| holds(name)).collect())
}

fn option(socket: &impl std::os::fd::AsRawFd, name: libc::c_int, value: &mut [u8]) -> io::Result<()> {
    let mut length = value.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `value`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One attribute of netlink, padded.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_chain_is_read_from_its_message() {
        let body = [
            vec![2, 0, 0, 0],
            attribute(1, b"nat\0"),
            attribute(2, &[0; 8]),
            attribute(3, b"KUBE-SERVICES\0"),
        ]
        .concat();
        let length = (16 + body.len()) as u32;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend([0x03, 0x0a].iter().chain(&[0; 10]));
        message.extend(&body);
        let done = [16_u32.to_ne_bytes().to_vec(), 3_u16.to_ne_bytes().to_vec(), vec![0; 10]].concat();
        let all = [message, done].concat();
        let mut rest = all.as_slice();
        let (_, first) = next(&mut rest).unwrap();
        assert_eq!(chain(first), Some(Chain { table: "nat".into(), name: "KUBE-SERVICES".into() }));
        assert_eq!(next(&mut rest).unwrap().0, NLMSG_DONE);
        assert!(next(&mut rest).is_none());
        assert!(chain(&first[..20]).is_none());
    }

    #[test]
    fn the_kernel_answers() {
        chains().unwrap();
        older_chains("nat", &["KUBE-SERVICES"]).unwrap();
    }
}
