//! The chains of the node's firewall, of which the names say whose rules are there: those of nf_tables by netlink, those of
//! the older ip_tables by a socket option. Reads only; knows nobody's names.

use std::{collections::BTreeSet, fs, io, mem};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with};

use super::talk::{Talk, find, flags};

/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_GETCHAIN` of the kernel's `nfnetlink.h` and `nf_tables.h`.
const GET_CHAIN: u16 = (10 << 8) | 4;
/// `NFTA_CHAIN_TABLE`, `NFTA_CHAIN_NAME`, `NFTA_CHAIN_TYPE`.
const TABLE: u16 = 1;
const NAME: u16 = 3;
const TYPE: u16 = 7;
/// `NFPROTO_INET`: of both families.
const INET: u8 = 1;
/// Bytes of `struct nfgenmsg`, which begins with the family.
const HEADER: usize = 4;

/// What a kernel says that has no nf_tables, or no netlink of netfilter.
const ABSENT: [i32; 3] = [libc::EINVAL, libc::EOPNOTSUPP, libc::EPROTONOSUPPORT];

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
    let mut chains = BTreeSet::new();
    each_chain(|message| chains.extend(chain(message)))?;
    Ok(chains)
}

/// Which families of addresses netfilter translates in the network namespace of this process: those that some chain is there
/// for, of whatever rules. Without one it translates nothing, not even connections that are in its table.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`.
pub fn translates() -> io::Result<Translates> {
    let older = |names| {
        let tables = fs::read_to_string(names).unwrap_or_default();
        tables.lines().any(|line| line == "nat")
    };
    let mut found = Translates {
        v4: older("/proc/thread-self/net/ip_tables_names"),
        v6: older("/proc/thread-self/net/ip6_tables_names"),
    };
    each_chain(|message| {
        if let Some(family) = nat_family(message) {
            found.v4 |= [INET, libc::AF_INET as u8].contains(&family);
            found.v6 |= [INET, libc::AF_INET6 as u8].contains(&family);
        }
    })?;
    Ok(found)
}

/// The families that netfilter translates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Translates {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// Shows every chain's message to `each`, from `struct nfgenmsg` on.
fn each_chain(each: impl FnMut(&[u8])) -> io::Result<()> {
    let asked = Talk::open(netlink::NETFILTER)
        .and_then(|mut talk| talk.ask(GET_CHAIN, flags::DUMP, &[0; HEADER], each));
    match asked {
        // No nf_tables.
        Err(error) if error.raw_os_error().is_some_and(|errno| ABSENT.contains(&errno)) => Ok(()),
        asked => asked,
    }
}

fn chain(message: &[u8]) -> Option<Chain> {
    let [table, name] = [TABLE, NAME].map(|kind| value(message, kind));
    let text = |value| String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
    Some(Chain { table: text(table?), name: text(name?) })
}

/// The family of a chain that translates.
fn nat_family(message: &[u8]) -> Option<u8> {
    (value(message, TYPE)? == b"nat\0").then_some(*message.first()?)
}

fn value(message: &[u8], kind: u16) -> Option<&[u8]> {
    find(message.get(HEADER..)?, kind)
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
        assert_eq!(chain(&body), Some(Chain { table: "nat".into(), name: "KUBE-SERVICES".into() }));
        assert!(chain(&body[..20]).is_none());
        assert_eq!(nat_family(&body), None);
    }

    #[test]
    fn a_chain_that_translates_says_for_which_family() {
        let message = |family: u8, kind: &[u8]| [vec![family, 0, 0, 0], attribute(7, kind)].concat();
        assert_eq!(nat_family(&message(1, b"nat\0")), Some(1));
        assert_eq!(nat_family(&message(10, b"nat\0")), Some(10));
        assert_eq!(nat_family(&message(1, b"filter\0")), None);
        assert_eq!(nat_family(&message(1, b"nat\0")[..6]), None);
    }

    #[test]
    fn the_kernel_answers() {
        chains().unwrap();
        older_chains("nat", &["KUBE-SERVICES"]).unwrap();
    }
}
