//! A tap on the real programs, where the kernel lets one look into others, and how its events are read.

use super::*;

fn event(phase: Phase, hook: u32, reason: u32, packet: &[u8]) -> Vec<u8> {
    let words = [hook, phase as u32, 0xffff_ffff, reason, packet.len() as u32, 7];
    let words = words.iter().flat_map(|word| word.to_ne_bytes());
    5_u64.to_ne_bytes().into_iter().chain(words).chain(packet.iter().copied()).chain([0; 4]).collect()
}

/// ARP is nobody's; an IPv4 SYN goes to where no Service is. The rest of both is zero.
fn frames() -> [Vec<u8>; 2] {
    let (mut arp, mut syn) = (vec![0; 42], vec![0; 54]);
    arp[12..14].copy_from_slice(&[8, 6]);
    syn[12..15].copy_from_slice(&[8, 0, 0x45]);
    syn[16..18].copy_from_slice(&[0, 40]);
    syn[22..24].copy_from_slice(&[64, 6]);
    syn[26..38].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 0, 80]);
    syn[46..48].copy_from_slice(&[0x50, 2]);
    [arp, syn]
}

/// The programs as they are, over maps of their own, and the packet of a test run.
#[test]
fn programs_are_tapped_with_their_packets_and_reasons() {
    use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
    let mut loader = aya::EbpfLoader::new();
    for spec in proxy_common::maps::SPECS.iter().filter(|spec| spec.entries > 64) {
        let is_sized = !matches!(spec.name, "counters" | "early" | "notices");
        loader.map_max_entries(spec.name, if is_sized { 64 } else { spec.entries });
    }
    let config = proxy_common::DatapathConfig { ipv4: 1, ipv6: 1, ..Default::default() };
    loader.override_global("CONFIG", zerocopy::IntoBytes::as_bytes(&config), true);
    let mut object = loader.load(crate::kernel::object::BYTES).unwrap();
    let mut programs = BTreeMap::new();
    let tc: &mut SchedClassifier = object.program_mut("from_pod").unwrap().try_into().unwrap();
    tc.load().unwrap();
    programs.insert(tc.info().unwrap().id(), Hook::FromPod);
    let ahead: &mut SchedClassifier = object.program_mut(onward::AHEAD).unwrap().try_into().unwrap();
    ahead.load().unwrap();
    programs.insert(ahead.info().unwrap().id(), Hook::FromPod);
    onward::lead(&mut object).unwrap();
    let xdp: &mut Xdp = object.program_mut("early_wire").unwrap().try_into().unwrap();
    xdp.load().unwrap();
    programs.insert(xdp.info().unwrap().id(), Hook::EarlyWire);
    let Some(Map::PerCpuArray(counters)) = object.map("counters") else { panic!("no counters") };
    if !matches!(aya::sys::is_program_supported(aya::programs::ProgramType::Tracing), Ok(true)) {
        eprintln!("SKIPPED: this kernel takes no tracing programs");
        return;
    }
    let mut tap = Tap::around(&programs, counters.fd().as_fd()).unwrap();
    let mut run = |name: &str, packet: &[u8]| {
        let run = TestRunOptions { data_in: Some(packet), ..TestRunOptions::default() };
        let program = object.program_mut(name).unwrap();
        if let Ok(tc) = <&mut SchedClassifier>::try_from(&mut *program) {
            return tc.test_run(run).map(drop).unwrap();
        }
        let xdp: &mut Xdp = program.try_into().unwrap();
        xdp.test_run(run).map(drop).unwrap();
    };
    let [arp, syn] = frames();
    run("from_pod", &arp);
    run("from_pod", &syn);
    // It goes on to the other, which is tapped, too: it is one packet all the same.
    run(onward::AHEAD, &arp);
    run("early_wire", &arp);
    let mut seen = Vec::new();
    let flow = tap.read(|event| {
        let Event::Packet(tapped) = event else { panic!("{event:?}") };
        assert_eq!(tapped.before.map(|before| before.bytes).as_ref(), Some(&tapped.after.bytes));
        seen.push((tapped.hook, tapped.code, tapped.reason, tapped.after.bytes));
        ControlFlow::Continue(())
    });
    assert_eq!(flow, ControlFlow::Continue(()));
    seen.sort();
    let expected = [
        (Hook::FromPod, -1, Some(Reason::NotIp), arp.clone()),
        (Hook::FromPod, -1, Some(Reason::NotIp), arp.clone()),
        (Hook::FromPod, -1, Some(Reason::NotAService), syn),
        (Hook::EarlyWire, 2, None, arp),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn what_came_and_what_was_left_are_one_packet() {
    let hook = Hook::ALL.iter().position(|hook| *hook == Hook::FromPod).unwrap() as u32;
    let reason = Reason::ServiceNew;
    let came = half(&event(Phase::Before, hook, u32::MAX, b"came")).unwrap();
    let left = half(&event(Phase::After, hook, reason as u32, b"left")).unwrap();
    let bytes = |bytes: &[u8]| Bytes { at: 5, length: 4, bytes: bytes.to_vec() };
    let tapped = Tapped {
        at: 5,
        hook: Hook::FromPod,
        device: IfIndex(7),
        code: -1,
        reason: Some(reason),
        before: Some(bytes(b"came")),
        after: bytes(b"left"),
    };
    assert_eq!(whole(Some(came.clone()), left.clone()), tapped);
    assert_eq!(whole(None, left.clone()), Tapped { before: None, ..tapped });
    let elsewhere = Half { hook: Hook::ToPod, ..came };
    assert_eq!(whole(Some(elsewhere), left).before, None);
    assert_eq!(half(&[0; 20]), None);
    assert_eq!(half(&event(Phase::After, 99, 0, b"")), None);
}
