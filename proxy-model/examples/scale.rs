//! Times a full plan of many Services and single changes after it. Run it with `--release`:
//! `cargo run --release -p proxy-model --example scale -- 10000 10`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use proxy_common::{Port, Proto};
use proxy_model::fact::{
    Change, Endpoint, EndpointSlice, Kind, Label, ObjectKey, Service, ServicePort, SliceFamily, SlicePort,
};
use proxy_model::settings::Settings;
use proxy_model::{Capacity, Event, Planner, Tick, World};

fn service(number: u32) -> Event {
    Event::Service(Change::Put(Service::cluster_ip(
        ObjectKey::new("default", format!("service-{number}")),
        IpAddr::V4(Ipv4Addr::from_bits(0x0a60_0000 + number)),
        vec![ServicePort { name: "".into(), proto: Proto::TCP, port: Port::new(80), node_port: None }],
    )))
}

fn slice(number: u32, endpoints: u32, generation: u32) -> Event {
    let endpoint = |n: u32| Endpoint {
        address: Some(IpAddr::V4(Ipv4Addr::from_bits(0x0a80_0000 + number * 64 + n + generation % 8))),
        node: Some("node-1".into()),
        ..Endpoint::default()
    };
    Event::Slice(Change::Put(EndpointSlice {
        key: ObjectKey::new("default", format!("slice-{number}")),
        service: Some(format!("service-{number}").into()),
        family: SliceFamily::Ipv4,
        headless_label: Label::Absent,
        ports: vec![SlicePort { name: Some("".into()), proto: Proto::TCP, port: Some(Port::new(8080)) }],
        endpoints: (0..endpoints).map(endpoint).collect(),
    }))
}

/// Of this process, as the kernel says.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let services: u32 = numbers.next().unwrap_or(10_000);
    let endpoints: u32 = numbers.next().unwrap_or(10);
    let mut world = World::new(Settings::of_node("node-1"));
    let mut planner =
        Planner::new(Capacity { frontends: 4 * services, backends: 4 * services * endpoints, ranges: 1_000 });
    let began = Instant::now();
    for number in 0..services {
        let _ = world.apply(service(number));
        let _ = world.apply(slice(number, endpoints, 0));
    }
    for kind in [Kind::Service, Kind::Slice, Kind::Node] {
        let _ = world.apply(Event::Synced(kind));
    }
    println!("{services} services of {endpoints} endpoints applied in {:?}", began.elapsed());
    println!("resident: {} kB", resident());
    let began = Instant::now();
    let plan = planner.plan(&mut world, Tick(0));
    println!("full plan of {} writes in {:?}", plan.v4.len(), began.elapsed());
    drop(plan);
    println!("resident: {} kB", resident());
    let mut times: Vec<Duration> = Vec::new();
    let mut writes = 0;
    for change in 1..=1_000_u32 {
        let event = slice(change * 7_919 % services, endpoints, change);
        let began = Instant::now();
        let _ = world.apply(event);
        let plan = planner.plan(&mut world, Tick(u64::from(change) * 10));
        times.push(began.elapsed());
        writes += plan.v4.len();
    }
    times.sort_unstable();
    println!(
        "1000 changes of one slice, {writes} writes: median {:?}, 99 % within {:?}",
        times[500], times[990]
    );
}
