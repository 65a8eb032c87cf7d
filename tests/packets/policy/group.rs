//! Hosts that were never heard of, by what was found about their neighbours (decision 0041).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use proxy_common::{Reason, policy::PolicyFlags};
use tests::dataplane::Dataplane;
use tests::packet::{Packet, flags};

use super::{FRIENDS, friends, leave};
use crate::family::{FAMILIES, Names, dropped, next};

const BLOCKS: PolicyFlags = PolicyFlags(PolicyFlags::BLOCKS4.0 | PolicyFlags::BLOCKS6.0);

/// Prefixes of every grain, one in another, each with the addresses at its edges and beyond them. Every second one is of
/// friends.
const NESTED: [&[(&str, [&str; 4])]; 2] = [
    &[
        ("0.0.0.0/0", ["1.0.0.1", "9.9.9.9", "198.51.100.1", "203.0.113.255"]),
        ("100.64.0.0/10", ["100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0"]),
        ("100.100.0.0/16", ["100.99.255.255", "100.100.0.0", "100.100.255.255", "100.101.0.0"]),
        ("100.100.32.0/19", ["100.100.31.255", "100.100.32.0", "100.100.63.255", "100.100.64.0"]),
        ("100.100.48.0/20", ["100.100.47.255", "100.100.48.0", "100.100.62.9", "100.100.50.1"]),
        ("100.100.49.0/24", ["100.100.48.255", "100.100.49.0", "100.100.49.254", "100.100.50.0"]),
        ("100.100.49.128/25", ["100.100.49.127", "100.100.49.128", "100.100.49.255", "100.100.49.130"]),
        ("100.100.49.160/28", ["100.100.49.159", "100.100.49.160", "100.100.49.175", "100.100.49.176"]),
        ("100.100.49.168/32", ["100.100.49.167", "100.100.49.168", "100.100.49.169", "100.100.49.170"]),
    ],
    &[
        ("::/0", ["2001:db8::1", "2001:db8:ffff::1", "2a00::1", "2a00:ffff::1"]),
        ("fd64::/24", ["fd63:ffff::1", "fd64::1", "fd64:ff:ffff::1", "fd64:100::1"]),
        ("fd64:1::/32", ["fd64:0:ffff::1", "fd64:1::1", "fd64:1:ffff::1", "fd64:2::1"]),
        ("fd64:1:2000::/40", ["fd64:1:1fff::1", "fd64:1:2000::1", "fd64:1:20ff::1", "fd64:1:2100::1"]),
        ("fd64:1:2010::/48", ["fd64:1:200f::1", "fd64:1:2010::1", "fd64:1:2010:fffe::1", "fd64:1:2011::1"]),
        (
            "fd64:1:2010:4::/64",
            ["fd64:1:2010:3::1", "fd64:1:2010:4::1", "fd64:1:2010:4:8::1", "fd64:1:2010:5::1"],
        ),
        (
            "fd64:1:2010:4:1::/80",
            ["fd64:1:2010:4:0:1::", "fd64:1:2010:4:1::1", "fd64:1:2010:4:1:f::1", "fd64:1:2010:4:2::1"],
        ),
        (
            "fd64:1:2010:4:1:2::/96",
            ["fd64:1:2010:4:1:1::1", "fd64:1:2010:4:1:2::1", "fd64:1:2010:4:1:2:f:1", "fd64:1:2010:4:1:3::1"],
        ),
        (
            "fd64:1:2010:4:1:2:3:4/128",
            [
                "fd64:1:2010:4:1:2:3:3",
                "fd64:1:2010:4:1:2:3:4",
                "fd64:1:2010:4:1:2:3:5",
                "fd64:1:2010:4:1:2:3:6",
            ],
        ),
    ],
];

/// The policed pod opens a connection to a host, of which it is to be judged as the longest of the prefixes around it says.
fn ask(dataplane: &mut Dataplane, n: &Names, blocks: &[(IpNet, bool)], host: IpAddr) {
    let packet = Packet::tcp(flags::SYN, n.client, &SocketAddr::new(host, 8080).to_string());
    let around = blocks.iter().filter(|(block, _)| block.contains(&host));
    let (block, is_of_friends) = around.max_by_key(|(block, _)| block.prefix_len()).expect("one holds all");
    let want =
        if *is_of_friends { next(Reason::Judged, &packet) } else { dropped(Reason::DeniedEgress, &packet) };
    assert_eq!(leave(dataplane, &packet.bytes()), want, "{host} of {block}, of {} blocks", blocks.len());
}

#[test]
fn policy_items_20_to_22_hosts_that_a_prefix_divides_are_never_taken_for_each_other_whoever_was_asked_first()
{
    for (n, nested) in FAMILIES.iter().zip(NESTED) {
        let mut dataplane = friends(n);
        let hosts: Vec<IpAddr> = nested
            .iter()
            .flat_map(|(_, hosts)| hosts)
            .map(|host| host.parse().expect("an address"))
            .collect();
        let mut blocks: Vec<(IpNet, bool)> = Vec::new();
        for (number, (block, _)) in nested.iter().enumerate() {
            let is_of_friends = number.is_multiple_of(2);
            dataplane.block(block, if is_of_friends { FRIENDS } else { 0 });
            blocks.push((block.parse().expect("a prefix"), is_of_friends));
            for first in &hosts {
                // Counts as a write: nothing is known any more.
                dataplane.enforce(1, BLOCKS);
                for host in [first].into_iter().chain(&hosts).chain([first]) {
                    ask(&mut dataplane, n, &blocks, *host);
                }
            }
        }
    }
}

#[test]
fn what_was_found_about_a_host_holds_for_its_neighbours_until_a_write_is_counted() {
    for (n, nested) in FAMILIES.iter().zip(NESTED) {
        let [(all, [one, neighbour]), (narrow, [inside, beside])] = match nested[0].0 {
            "0.0.0.0/0" => [("0.0.0.0/0", ["9.9.1.1", "9.9.2.2"]), ("9.8.7.0/24", ["9.8.7.1", "9.8.6.1"])],
            _ => [("::/0", ["2a00:1::1", "2a00:1:2::1"]), ("2a00:2:3::/48", ["2a00:2:3::1", "2a00:2:4::1"])],
        };
        let host = |name: &str| -> IpAddr { name.parse().expect("an address") };
        let block = |name: &str, is_of_friends| (name.parse().expect("a prefix"), is_of_friends);
        let (before, after) =
            ([block(all, true), block(narrow, false)], [block(all, false), block(narrow, true)]);
        let mut dataplane = friends(n);
        for (name, class) in [(all, FRIENDS), (narrow, 0)] {
            dataplane.block(name, class);
        }
        dataplane.enforce(1, BLOCKS);
        for name in [one, inside] {
            ask(&mut dataplane, n, &before, host(name));
        }
        for (name, class) in [(all, 0), (narrow, FRIENDS)] {
            dataplane.block_uncounted(name, class);
        }
        ask(&mut dataplane, n, &before, host(neighbour));
        ask(&mut dataplane, n, &after, host(beside));
        dataplane.enforce(1, BLOCKS);
        for name in [one, neighbour, inside, beside] {
            ask(&mut dataplane, n, &after, host(name));
        }
    }
}

/// A prefix that is found without a search, one around it that is odd, one around both neighbourhood and all, and hosts of the
/// first and of the others.
const FOUND: [(&str, [&str; 2], [&str; 2]); 5] = [
    ("100.70.16.0/20", ["100.70.0.0/17", "100.0.0.0/8"], ["100.70.17.1", "100.70.32.1"]),
    ("100.71.5.0/24", ["100.71.0.0/17", "100.0.0.0/8"], ["100.71.5.1", "100.71.6.1"]),
    ("100.72.5.32/28", ["100.72.0.0/17", "100.0.0.0/8"], ["100.72.5.33", "100.72.5.48"]),
    ("fd64:70:1::/48", ["fd64:70::/33", "fd00::/8"], ["fd64:70:1:2::1", "fd64:70:2::1"]),
    ("fd64:71:1:5::/64", ["fd64:71::/33", "fd00::/8"], ["fd64:71:1:5::1", "fd64:71:1:6::1"]),
];

#[test]
fn a_group_that_is_a_prefix_is_found_at_once_and_by_the_longest_prefix_where_it_is_not_known_to_be_one() {
    let cases =
        FOUND.into_iter().flat_map(|(whole, around, hosts)| around.map(|around| (whole, around, hosts)));
    for (whole, around, [inside, beside]) in cases {
        let n = &FAMILIES[usize::from(whole.contains(':'))];
        let host = |name: &str| -> IpAddr { name.parse().expect("an address") };
        let block = |name: &str, is_of_friends| (name.parse().expect("a prefix"), is_of_friends);
        let mut dataplane = friends(n);
        dataplane.block(around, 0);
        dataplane.block(whole, FRIENDS);
        dataplane.enforce(1, BLOCKS);
        let now = [block(around, false), block(whole, true)];
        for name in [inside, beside] {
            ask(&mut dataplane, n, &now, host(name));
        }
        // The agent writes the trie first: until the other map is written, what that one says holds.
        dataplane.block_in_trie(whole, 0);
        dataplane.enforce(1, BLOCKS);
        ask(&mut dataplane, n, &now, host(inside));
        // And deletes from the other one first.
        dataplane.block_sooner(whole, None);
        dataplane.enforce(1, BLOCKS);
        let now = [block(around, false), block(whole, false)];
        for name in [inside, beside] {
            ask(&mut dataplane, n, &now, host(name));
        }
    }
}
