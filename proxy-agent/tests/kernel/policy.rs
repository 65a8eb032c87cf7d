//! What policies say in the maps of the kernel, and whose addresses are behind which device.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use aya::maps::{Array, Map, MapData};
use proxy_agent::kernel::{Kernel, Sizes, blocks::TORN, netlink};
use proxy_common::{
    Addr4, Addr6, DeviceKind, PeerClass, Policed, PolicyState, RuleSetId, VerdictKey, VerdictPage,
    group::{Grain, Tier, Whole},
    policy::PolicyFlags,
};
use proxy_model::policy::{AddressWrite, PageMark, PolicyWrite};

use crate::stage::{Stage, on_a_node, run};

fn inside(stage: &Stage, words: &[&str]) {
    let namespace = format!("--net=/run/netns/{}", stage.peer());
    run(&[&["nsenter", &namespace], words].concat());
}

#[test]
fn an_address_of_a_pod_is_known_by_its_device_as_soon_as_the_pod_has_it() {
    on_a_node(|stage| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let first = stage.pod("pod0");
            inside(stage, &["ip", "addr", "add", "10.244.1.5/24", "dev", "pod0"]);
            let mut topology = netlink::follow().await.unwrap();
            let mut until = async |wanted: &[(&str, u32)]| {
                let wanted: BTreeMap<IpAddr, u32> =
                    wanted.iter().map(|(ip, index)| (ip.parse().unwrap(), *index)).collect();
                let seen = topology.wait_for(|seen| seen.pod_devices() == wanted);
                let seen = tokio::time::timeout(std::time::Duration::from_secs(20), seen).await;
                assert!(seen.is_ok(), "{wanted:?} never");
            };
            until(&[("10.244.1.5", first)]).await;
            // Nothing is sent, and nobody has a route or a neighbour.
            let second = stage.pod("pod1");
            inside(stage, &["ip", "addr", "add", "10.244.1.6/32", "dev", "pod1"]);
            inside(stage, &["ip", "addr", "add", "fd00:10::6/64", "dev", "pod1", "nodad"]);
            until(&[("10.244.1.5", first), ("10.244.1.6", second), ("fd00:10::6", second)]).await;
            // The pod that has an address longer keeps it.
            inside(stage, &["ip", "addr", "add", "10.244.1.5/32", "dev", "pod1"]);
            inside(stage, &["ip", "addr", "del", "10.244.1.6/32", "dev", "pod1"]);
            until(&[("10.244.1.5", first), ("fd00:10::6", second)]).await;
            run(&["ip", "link", "del", "pod0"]);
            until(&[("10.244.1.5", second), ("fd00:10::6", second)]).await;
        });
    });
}

fn v4(last: u8) -> Addr4 {
    Ipv4Addr::new(10, 244, 1, last).into()
}

fn v6(last: u16) -> Addr6 {
    Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, last).into()
}

fn policed(ingress: u64) -> Policed {
    Policed { egress: RuleSetId::OPEN, ingress: RuleSetId(ingress), device: 7, pad: 0 }
}

fn verdict(rules: u64, pages: u16) -> PolicyWrite {
    let key = VerdictKey::new(RuleSetId(rules), PeerClass::WORLD, 0);
    PolicyWrite::PutVerdict { key, page: Box::new(VerdictPage { pages, ..VerdictPage::default() }) }
}

#[test]
fn whoever_is_written_is_mentioned_from_then_on_and_so_is_whoever_was_there_at_a_start() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let mentioned = |kernel: &Kernel| {
            let bits = &kernel.maps().policy.mentioned;
            [bits.has(&v4(6)), bits.has(&v4(7)), bits.has(&v6(7)), bits.has(&v4(8)), bits.has(&v6(6))]
        };
        assert_eq!(mentioned(&kernel), [false; 5]);
        let writes = [
            PolicyWrite::V4(AddressWrite::PutPeer { addr: v4(6), class: PeerClass(6) }),
            PolicyWrite::V4(AddressWrite::PutPoliced { addr: v4(7), value: policed(9) }),
            PolicyWrite::V6(AddressWrite::PutPoliced { addr: v6(7), value: policed(9) }),
        ];
        assert_eq!(kernel.judge(&writes).made, 3);
        assert_eq!(mentioned(&kernel), [true, true, true, false, false]);
        assert_eq!(kernel.judge(&[PolicyWrite::V4(AddressWrite::DeletePeer { addr: v4(6) })]).made, 1);
        assert_eq!(
            mentioned(&kernel),
            [true, true, true, false, false],
            "no bit is cleared: others may need it"
        );
        // As another layout's tables are carried over.
        kernel.maps().v4.peers.put(&v4(8), &PeerClass(8)).unwrap();
        kernel.maps().v6.policed.put(&v6(6), &policed(9)).unwrap();
        assert_eq!(mentioned(&kernel), [true, true, true, false, false]);
        drop(kernel);
        assert_eq!(mentioned(&stage.open()), [true; 5]);
    });
}

#[test]
fn a_prefix_divides_its_neighbourhood_from_then_on_and_so_does_one_that_was_there_at_a_start() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let grains = |kernel: &Kernel| {
            let bits = &kernel.maps().policy.mentioned;
            [bits.division(&v4(6)).grain(), bits.division(&v6(7)).grain()]
        };
        let (coarsest, finest) = (Grain::COARSEST, Grain::FINEST);
        assert_eq!(grains(&kernel), [coarsest; 2]);
        let block = Tier::key(v4(0), 30);
        let put = PolicyWrite::V4(AddressWrite::PutBlock { key: block, class: PeerClass(5) });
        assert_eq!(kernel.judge(&[put]).made, 1);
        assert_eq!(grains(&kernel), [finest, coarsest]);
        assert_eq!(kernel.judge(&[PolicyWrite::V4(AddressWrite::DeleteBlock { key: block })]).made, 1);
        assert_eq!(grains(&kernel), [finest, coarsest], "no bit is cleared: others may need it");
        // As another layout's tables are carried over.
        kernel.maps().v6.blocks.put(&Tier::key(v6(0), 60), &PeerClass(5)).unwrap();
        drop(kernel);
        assert_eq!(grains(&stage.open()), [finest, Grain::of::<Addr6>(64)]);
    });
}

#[test]
fn what_is_written_is_found_by_the_next_agent_and_who_watches_goes_on_watching() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let watched = PolicyState { epoch: 0, flags: PolicyFlags::WATCHED };
        kernel.maps().policy.state.put(&0, &watched).unwrap();
        let state = PolicyState { epoch: 3, flags: PolicyFlags::BLOCKS4 };
        let block = Tier::key(v4(0), 24);
        let writes = [
            verdict(9, 2),
            PolicyWrite::V4(AddressWrite::PutBlock { key: block, class: PeerClass(5) }),
            PolicyWrite::V4(AddressWrite::PutPeer { addr: v4(6), class: PeerClass(6) }),
            PolicyWrite::V4(AddressWrite::PutPoliced { addr: v4(7), value: policed(9) }),
            PolicyWrite::V6(AddressWrite::PutPoliced { addr: v6(7), value: policed(9) }),
            PolicyWrite::V6(AddressWrite::DeletePeer { addr: v6(1) }),
            PolicyWrite::State(state),
        ];
        let judged = kernel.judge(&writes);
        assert_eq!((judged.made, judged.error.is_none()), (7, true));
        drop(kernel);
        let mut kernel = stage.open();
        let found = kernel.policy_actual().unwrap();
        assert_eq!(found.v4.policed, [(v4(7), policed(9))]);
        assert_eq!(found.v4.peers, [(v4(6), PeerClass(6))]);
        assert_eq!(found.v4.blocks, [(block, PeerClass(5))]);
        assert_eq!(found.v6.policed, [(v6(7), policed(9))]);
        let page = VerdictPage { pages: 2, ..VerdictPage::default() };
        let key = VerdictKey::new(RuleSetId(9), PeerClass::WORLD, 0);
        assert_eq!(found.verdicts, [(key, PageMark::of(&page))]);
        assert_eq!(
            found.state,
            PolicyState { flags: PolicyFlags::BLOCKS4.with(PolicyFlags::WATCHED), ..state }
        );
        let gone = [
            PolicyWrite::V4(AddressWrite::DeletePoliced { addr: v4(7) }),
            PolicyWrite::V6(AddressWrite::DeletePoliced { addr: v6(7) }),
            PolicyWrite::State(PolicyState::default()),
        ];
        assert_eq!(kernel.judge(&gone).made, 3);
        let found = kernel.policy_actual().unwrap();
        assert_eq!((found.v4.policed, found.v6.policed, found.state), (vec![], vec![], watched));
    });
}

/// The count of writes to the maps of policies.
fn writes_to(kernel: &Kernel) -> u32 {
    let pin = kernel.maps().pins.map("policywrites");
    Array::<_, u32>::try_from(Map::Array(MapData::from_pin(pin).unwrap())).unwrap().get(&0, 0).unwrap()
}

#[test]
fn a_prefix_that_is_a_whole_group_is_written_twice_and_one_that_both_maps_do_not_agree_on_is_written_anew() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let (whole, part) = (Tier::key(v4(0), 24), Tier::key(v4(0), 25));
        let put = |key, class| PolicyWrite::V4(AddressWrite::PutBlock { key, class });
        let writes = [put(whole, PeerClass(5)), put(part, PeerClass(6))];
        assert_eq!(kernel.judge(&writes).made, 2);
        let blocks = |kernel: &mut Kernel| {
            let mut blocks = kernel.policy_actual().unwrap().v4.blocks;
            blocks.sort_unstable();
            blocks
        };
        let key = Whole::of(&whole).unwrap();
        assert_eq!(kernel.maps().v4.blocks.wholes.entries().unwrap(), [(key, PeerClass(5))]);
        assert_eq!(blocks(&mut kernel), [(whole, PeerClass(5)), (part, PeerClass(6))]);
        // As an agent leaves it that ends between the two writes.
        kernel.maps().v4.blocks.trie.put(&whole, &PeerClass(7)).unwrap();
        assert_eq!(blocks(&mut kernel), [(whole, TORN), (part, PeerClass(6))]);
        assert_eq!(kernel.judge(&[put(whole, PeerClass(7))]).made, 1);
        assert_eq!(blocks(&mut kernel), [(whole, PeerClass(7)), (part, PeerClass(6))]);
        kernel.maps().v4.blocks.wholes.remove(&key).unwrap();
        assert_eq!(blocks(&mut kernel), [(whole, TORN), (part, PeerClass(6))]);
        // And as the next one finds it, and says so when it has mended it.
        let before = writes_to(&kernel);
        drop(kernel);
        let mut kernel = stage.open();
        assert_eq!(blocks(&mut kernel), [(whole, PeerClass(7)), (part, PeerClass(6))]);
        assert_eq!(writes_to(&kernel) - before, 2, "one for who wrote last, one for what is derived");
        for key in [whole, part] {
            assert_eq!(kernel.judge(&[PolicyWrite::V4(AddressWrite::DeleteBlock { key })]).made, 1);
        }
        assert_eq!(
            (blocks(&mut kernel), kernel.maps().v4.blocks.wholes.entries().unwrap()),
            (vec![], vec![])
        );
    });
}

#[test]
fn nothing_behind_a_write_that_fails_is_written() {
    on_a_node(|stage| {
        stage.settings.sizes = Sizes { verdicts: 2, ..stage.settings.sizes };
        let mut kernel = stage.open();
        let policed = PolicyWrite::V4(AddressWrite::PutPoliced { addr: v4(7), value: policed(9) });
        let judged = kernel.judge(&[verdict(1, 1), verdict(2, 1), verdict(3, 1), policed]);
        assert_eq!(judged.made, 2);
        assert_eq!(judged.error.and_then(|error| error.raw_os_error()), Some(libc::E2BIG));
        assert_eq!(kernel.policy_actual().unwrap().v4.policed, []);
    });
}

#[test]
fn devices_of_pods_under_a_policy_are_marked_until_somebody_says_otherwise() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let (one, other) = (stage.pod("pod0"), stage.pod("pod1"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seen = runtime.block_on(async { netlink::follow().await.unwrap().borrow().clone() });
        let marked = |kernel: &proxy_agent::kernel::Kernel| -> BTreeSet<u32> {
            let devices = kernel.maps().devices.entries().unwrap();
            assert!(devices.iter().all(|(_, kind)| kind.role() == DeviceKind::POD), "{devices:?}");
            let marked = devices.into_iter().filter(|(_, kind)| kind.has(DeviceKind::POLICED));
            marked.map(|(index, _)| index).collect()
        };
        assert!(kernel.follow(&seen, &[]).is_empty());
        kernel.guard(&BTreeSet::from([one])).unwrap();
        assert_eq!(marked(&kernel), [one].into());
        drop(kernel);
        // The next agent does not know of policies yet.
        let mut kernel = stage.open();
        assert!(kernel.follow(&seen, &[]).is_empty());
        assert_eq!(marked(&kernel), [one].into());
        kernel.guard(&BTreeSet::from([other])).unwrap();
        assert_eq!(marked(&kernel), [other].into());
        assert!(kernel.follow(&seen, &[]).is_empty());
        assert_eq!(marked(&kernel), [other].into());
    });
}
