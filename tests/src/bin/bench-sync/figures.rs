//! What was measured with one size as figures, with those that answer goals among them, and as plots over the sizes.

use sluice_bench::{Axis, Estimate, Figure, Plot, Series, Unit, statistics};
use tests::sync::agent::Start;

use crate::stage::Found;

pub(crate) const MIB: f64 = 1_048_576.0;

/// Seconds between two moments of each start.
fn spans(starts: &[Start], span: impl Fn(&Start) -> f64) -> Vec<f64> {
    starts.iter().map(span).collect()
}

fn median(samples: &[f64]) -> Option<Estimate> {
    statistics::estimate(samples, statistics::median)
}

pub(crate) fn figures(found: &Found) -> Vec<Figure> {
    let Found { size, cold, warm, changes, floor, added, burst, memory, pressure } = found;
    let on = size.name();
    let told = |name: &str, unit, estimate: Option<Estimate>| {
        estimate.map(|estimate| Figure::told(name, on.as_str(), unit, estimate))
    };
    let p99 = |samples: &[f64]| statistics::estimate(samples, |all| statistics::quantile(all, 0.99));
    let serving = median(&spans(cold, |start| start.serving - start.listed));
    let mut all: Vec<Option<Figure>> = match size.services {
        10_000 => vec![Some(Figure::of(13, "10k", on.as_str(), serving))],
        100_000 => vec![Some(Figure::of(13, "100k", on.as_str(), serving))],
        _ => vec![told("first sync, decoded → serving", Unit::Seconds, serving)],
    };
    all.push(told(
        "start: programs loaded and attached",
        Unit::Seconds,
        median(&spans(cold, |s| s.loaded - s.began)),
    ));
    all.push(told(
        "start: lists read and decoded",
        Unit::Seconds,
        median(&spans(cold, |s| s.listed - s.adopted)),
    ));
    all.push(told("start: all of it", Unit::Seconds, median(&spans(cold, |s| s.serving - s.began))));
    all.push(told(
        "restart: programs loaded, links taken over",
        Unit::Seconds,
        median(&spans(warm, |s| s.loaded - s.began)),
    ));
    all.push(told("restart: maps taken over", Unit::Seconds, median(&spans(warm, |s| s.adopted - s.loaded))));
    all.push(told(
        "restart: decoded → serving",
        Unit::Seconds,
        median(&spans(warm, |s| s.serving - s.listed)),
    ));
    all.push(told("restart: all of it", Unit::Seconds, median(&spans(warm, |s| s.serving - s.began))));
    all.push(Some(Figure::of(14, "p50", on.as_str(), median(changes))));
    all.push(Some(Figure::of(14, "p99", on.as_str(), p99(changes))));
    all.push(told("a message alone, median", Unit::Microseconds, median(floor)));
    all.push(told("a message alone, 99 of 100", Unit::Microseconds, p99(floor)));
    all.push(told("a Service more: event → map, median", Unit::Microseconds, median(added)));
    all.push(told("a Service more: event → map, 99 of 100", Unit::Microseconds, p99(added)));
    all.push(Some(Figure::of(15, "events", on.as_str(), median(burst))));
    let resident = Some(Estimate::exact(memory.own as f64 / MIB));
    all.push(match size.services {
        10_000 => Some(Figure::of(16, "10k", on.as_str(), resident)),
        100_000 => Some(Figure::of(16, "100k", on.as_str(), resident)),
        _ => told("agent RSS", Unit::Mebibytes, resident),
    });
    for (name, bytes) in [
        ("agent: heap and stacks", memory.heap),
        ("agent: most RSS so far, with mapped arrays", memory.peak),
        ("arrays of maps that the agent has mapped", memory.mapped),
        ("maps, by the kernel's account", memory.maps),
    ] {
        all.push(told(name, Unit::Mebibytes, Some(Estimate::exact(bytes as f64 / MIB))));
    }
    all.into_iter().flatten().map(|figure| figure.under(*pressure)).collect()
}

pub(crate) fn plots(found: &[Found]) -> Vec<Plot> {
    let line = |name: &str, value: &dyn Fn(&Found) -> Option<f64>| {
        let points = found.iter().filter_map(|f| Some((f64::from(f.size.services), value(f)?)));
        Series::new(name, points.collect())
    };
    let plot = |title: &str, unit: &str, series| Plot {
        title: title.to_owned(),
        x: Axis::log("Services"),
        y: Axis::log(unit),
        series,
    };
    vec![
        plot(
            "One change: event → map",
            "µs",
            vec![
                line("endpoints, p50", &|f| statistics::median(&f.changes)),
                line("endpoints, p99", &|f| statistics::quantile(&f.changes, 0.99)),
                line("Service more, p50", &|f| statistics::median(&f.added)),
                line("Service more, p99", &|f| statistics::quantile(&f.added, 0.99)),
            ],
        ),
        plot(
            "Starts",
            "s",
            vec![
                line("cold, all", &|f| statistics::median(&spans(&f.cold, |s| s.serving - s.began))),
                line("decoded → serving", &|f| {
                    statistics::median(&spans(&f.cold, |s| s.serving - s.listed))
                }),
                line("restart, all", &|f| statistics::median(&spans(&f.warm, |s| s.serving - s.began))),
            ],
        ),
        plot(
            "Memory",
            "MiB",
            vec![
                line("agent, RSS", &|f| Some(f.memory.own as f64 / MIB)),
                line("maps", &|f| Some(f.memory.maps as f64 / MIB)),
            ],
        ),
    ]
}
