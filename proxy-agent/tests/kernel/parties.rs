//! Whose packets connections may have, in the maps of the kernel (decision 0043): what is there at a start is named before
//! anybody trusts the names.

use std::net::Ipv4Addr;

use aya::maps::{Array, Map, MapData};
use proxy_agent::kernel::{Kernel, Settings};
use proxy_common::{Addr4, Addr6, Flow, FlowKey, Port, Proto, maps::LAYOUT_VERSION, party::Parties};

use crate::stage::on_a_node;

fn v4(last: u8) -> Addr4 {
    Ipv4Addr::new(10, 244, 1, last).into()
}

fn v6(last: u16) -> Addr6 {
    std::net::Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, last).into()
}

fn key<A: proxy_common::Address>(src: A, dst: A) -> FlowKey<A> {
    FlowKey::new(src, Port::new(8_080), dst, Port::new(40_000), Proto::TCP)
}

/// Whether the names count, and who is looked up of four.
fn known(kernel: &Kernel) -> (bool, [bool; 4]) {
    let parties = &kernel.maps().parties;
    (parties.count(), [parties.has(&v4(6)), parties.has(&v4(7)), parties.has(&v6(6)), parties.has(&v6(7))])
}

/// What the programs read.
fn state(settings: &Settings) -> u64 {
    let pin = settings.bpf_root.join(format!("v{LAYOUT_VERSION}/maps/parties"));
    let map = Array::<_, u64>::try_from(Map::Array(MapData::from_pin(pin).unwrap())).unwrap();
    map.get(&Parties::WORD, 0).unwrap()
}

const EVERYBODY: [bool; 4] = [true; 4];

#[test]
fn the_names_count_once_all_that_a_start_has_found_is_named_and_not_before() {
    on_a_node(|stage| {
        let kernel = stage.open();
        assert_eq!(known(&kernel), (false, EVERYBODY));
        kernel.caretaker().unwrap().name_parties().unwrap();
        assert_eq!(known(&kernel), (true, [false; 4]));
        // As programs make them that name nobody.
        let (maps, flow) = (kernel.maps(), Flow::default());
        maps.v4.flows.put(&key(v4(6), v4(9)), &flow).unwrap();
        maps.v6.half_open.put(&key(v6(7), v6(9)), &Flow::default()).unwrap();
        drop(kernel);
        let kernel = stage.open();
        assert_eq!(known(&kernel), (false, EVERYBODY), "nobody trusts what programs before have done");
        kernel.caretaker().unwrap().name_parties().unwrap();
        assert_eq!(known(&kernel), (true, [true, false, false, true]));
        // Nothing is left to do, and nothing is undone.
        kernel.caretaker().unwrap().name_parties().unwrap();
        assert_eq!(known(&kernel), (true, [true, false, false, true]));
    });
}

#[test]
fn a_start_that_fails_leaves_nobody_who_trusts_the_names() {
    on_a_node(|stage| {
        let kernel = stage.open();
        let caretaker = kernel.caretaker().unwrap();
        caretaker.name_parties().unwrap();
        assert_eq!(state(&stage.settings), u64::from(Parties::NAMED.0));
        drop(kernel);
        // After everything was doubted: no table has as many entries.
        let mut settings: Settings = stage.settings.clone();
        settings.sizes.flows = u32::MAX;
        Kernel::open(&settings).unwrap_err();
        caretaker.name_parties().unwrap();
        assert_eq!(state(&stage.settings), u64::from(Parties::UNKNOWN.0));
    });
}
