//! Addresses and ranges as upstream reads them: leading zeros are decimal (item 20, CVE-2021-29923), and an
//! IPv4-mapped IPv6 address is the IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proxy_model::fact::Prefix;

use super::Fault;

/// An address.
pub(super) fn address(text: &str) -> Result<IpAddr, Fault> {
    lenient(text).map(|ip| ip.to_canonical()).ok_or_else(|| Fault::NotAnAddress(text.to_owned()))
}

/// An address that a Service may claim. What is loopback, link-local (cloud metadata among it) or multicast is refused as the
/// API refuses it in `externalIPs`; a load balancer's status is not looked at there, and files are not at all.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/apis/core/validation/validation.go> `ValidateNonSpecialIP`
pub(super) fn claimed(text: &str) -> Result<IpAddr, Fault> {
    let ip = address(text)?;
    let is_special = match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast(),
    };
    if is_special { Err(Fault::SpecialAddress(ip)) } else { Ok(ip) }
}

/// An address range; white space around it does not matter (item 21).
pub(super) fn prefix(text: &str) -> Result<Prefix, Fault> {
    let range = || {
        let (addr, len) = text.trim().split_once('/')?;
        let len: u8 =
            if len.bytes().all(|byte| byte.is_ascii_digit()) { len.parse().ok()? } else { return None };
        let addr = lenient(addr)?;
        let bits = if addr.is_ipv4() { 32 } else { 128 };
        if len > bits {
            return None;
        }
        match addr.to_canonical() {
            // `::ffff:192.0.2.0/120` is a range of IPv4 addresses.
            IpAddr::V4(v4) if addr.is_ipv6() && len >= 96 => Some(Prefix { addr: v4.into(), len: len - 96 }),
            IpAddr::V4(_) | IpAddr::V6(_) => Some(Prefix { addr, len }),
        }
    };
    range().ok_or_else(|| Fault::NotARange(text.to_owned()))
}

fn lenient(text: &str) -> Option<IpAddr> {
    let Some((head, tail)) = text.rsplit_once(':') else { return dotted(text).map(IpAddr::V4) };
    if !tail.contains('.') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    // The IPv4 half of an IPv6 address is read as leniently.
    let tail = dotted(tail)?;
    format!("{head}:{tail}").parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

fn dotted(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // Any number of zeros may lead; what is left must fit.
        let digits = part.trim_start_matches('0');
        *octet = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    }
    parts.next().is_none().then(|| octets.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_20_leading_zeros_are_decimal() {
        for (text, expected) in [
            ("10.96.0.1", Some("10.96.0.1")),
            ("010.096.000.008", Some("10.96.0.8")),
            ("0000000010.0.0.1", Some("10.0.0.1")),
            ("fd00:0096::0015", Some("fd00:96::15")),
            ("64:ff9b::010.0.0.08", Some("64:ff9b::a00:8")),
            ("::ffff:10.0.0.1", Some("10.0.0.1")),
            ("10.96.0", None),
            ("10.96.0.1.2", None),
            ("10.96.0.256", None),
            ("10.96.0.+1", None),
            ("10.96.0.0x1", None),
            (" 10.96.0.1", None),
            ("fe80::1%eth0", None),
            ("10..0.1", None),
            ("None", None),
            ("", None),
        ] {
            assert_eq!(address(text).ok(), expected.map(|ip| ip.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn item_21_ranges_are_trimmed_and_read_as_leniently() {
        for (text, expected) in [
            (" 10.0.0.0/8\t", Some(("10.0.0.0", 8))),
            ("010.001.0.0/016", Some(("10.1.0.0", 16))),
            ("0.0.0.0/0", Some(("0.0.0.0", 0))),
            ("fd00::/56", Some(("fd00::", 56))),
            ("::ffff:192.0.2.0/120", Some(("192.0.2.0", 24))),
            ("10.0.0.0", None),
            ("10.0.0.0/33", None),
            ("fd00::/129", None),
            ("10.0.0.0/+8", None),
            ("10.0.0.0/", None),
            ("here/8", None),
        ] {
            let expected = expected.map(|(addr, len)| Prefix { addr: addr.parse().unwrap(), len });
            assert_eq!(prefix(text).ok(), expected, "{text}");
        }
    }
}
