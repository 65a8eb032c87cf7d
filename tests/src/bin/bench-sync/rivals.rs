//! What came of kube-proxy beside Sluice, as figures.

use sluice_bench::{Estimate, Figure, Unit, statistics};
use tests::contest::rival::{Found, Rival};

use crate::figures::MIB;

/// Everybody's figures, and how many times as long kube-proxy takes.
pub(crate) fn figures(all: &[Found]) -> Vec<Figure> {
    let ours = all.iter().find(|found| found.rival == Rival::Sluice);
    all.iter().flat_map(|found| of_one(found, ours.filter(|_| found.rival != Rival::Sluice))).collect()
}

fn of_one(found: &Found, ours: Option<&Found>) -> Vec<Figure> {
    let Found { rival, services, start, changes, resident } = found;
    let on = format!("{services} Services, {rival}");
    let told = |name: &str, unit, estimate| Figure::told(name, on.as_str(), unit, estimate);
    let middle = |samples: &[f64]| statistics::estimate(samples, statistics::median);
    let most = changes.iter().copied().fold(0.0, f64::max);
    let mut figures = vec![
        told(
            "from the process's start to the last Service's connection",
            Unit::Seconds,
            Estimate::exact(*start),
        ),
        told("slice event → connection, slowest", Unit::Microseconds, Estimate::exact(most)),
        told("most memory of the process", Unit::Mebibytes, Estimate::exact(*resident as f64 / MIB)),
    ];
    let Some(typical) = middle(changes) else { return figures };
    figures.push(told("slice event → connection, median", Unit::Microseconds, typical));
    if let Some((ours, median)) = ours.and_then(|ours| Some((ours, middle(&ours.changes)?.value))) {
        let times = format!("{services} Services, {rival} ÷ Sluice");
        let ratio = |name: &str, estimate| Figure::told(name, times.as_str(), Unit::Ratio, estimate);
        figures.push(ratio("slice event → connection, median", typical.scaled(1.0 / median)));
        figures.push(ratio(
            "from the process's start to the last Service's connection",
            Estimate::exact(start / ours.start),
        ));
    }
    figures
}
