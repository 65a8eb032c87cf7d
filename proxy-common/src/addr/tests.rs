//! Addresses and ports on their way to the maps and back.

extern crate std;
use super::*;
use std::string::ToString;

#[test]
fn an_address_survives_the_way_to_the_map_and_back() {
    for text in ["10.96.0.1", "255.255.255.255", "fd00:96::15", "::ffff:10.0.0.1", "::"] {
        let ip: IpAddr = text.parse().unwrap();
        let back = Addr4::from_ip(ip).map(Address::to_ip).or(Addr6::from_ip(ip).map(Address::to_ip));
        assert_eq!(back, Some(ip));
    }
    assert_eq!(Addr4::from(Ipv4Addr::new(10, 0, 0, 1)).as_bytes(), [10, 0, 0, 1]);
}

#[test]
fn only_a_mapped_address_yields_its_ipv4_half() {
    let mapped = Addr6::from("::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap());
    assert_eq!(mapped.mapped(), Some(Ipv4Addr::new(10, 0, 0, 1).into()));
    assert_eq!(Addr6::from("::10.0.0.1".parse::<Ipv6Addr>().unwrap()).mapped(), None);
    assert_eq!(Addr6::from("fd00::ffff:a00:1".parse::<Ipv6Addr>().unwrap()).mapped(), None);
}

#[test]
fn loopback_addresses_are_a_range_in_ipv4_and_one_in_ipv6() {
    for (text, loopback) in [
        ("127.0.0.1", true),
        ("127.255.0.53", true),
        ("10.0.0.127", false),
        ("0.0.0.0", false),
        ("::1", true),
        ("::", false),
        ("::1:1", false),
        ("100::1", false),
    ] {
        let ip: IpAddr = text.parse().unwrap();
        let v4 = Addr4::from_ip(ip).map(Address::is_loopback);
        assert_eq!(v4.or(Addr6::from_ip(ip).map(Address::is_loopback)), Some(loopback), "{text}");
    }
}

#[test]
fn prefix_masks_cover_every_length() {
    assert_eq!(Addr4::prefix_mask(0).to_string(), "0.0.0.0");
    assert_eq!(Addr4::prefix_mask(20).to_string(), "255.255.240.0");
    assert_eq!(Addr4::prefix_mask(200).to_string(), "255.255.255.255");
    assert_eq!(Addr6::prefix_mask(33).to_string(), "ffff:ffff:8000::");
    assert_eq!(Addr6::prefix_mask(128).to_string(), Ipv6Addr::from_bits(u128::MAX).to_string());
}

#[test]
fn a_port_is_stored_in_network_order_and_sorted_as_a_number() {
    assert_eq!(Port::new(0x1234).as_bytes(), [0x12, 0x34]);
    assert!(Port::new(255) < Port::new(256));
}
