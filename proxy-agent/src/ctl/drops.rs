//! `proxyctl drops`: what did not get through, by reason and, where a policy decided, by its rule; with `--watch` how fast.
//! The counts are the programs' own, since the maps were made: no agent needs to run.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use clap::Args;
use proxy_common::Reason;
use proxy_common::reason::Outcome;
use serde::Serialize;

use super::output::{Format, Page, Tone, columns, print};
use super::reader::Reader;
use crate::observe::denials;
use crate::observe::maps::outcome;

/// Clears what an earlier page left on a terminal.
const CLEAR: &str = "\x1b[H\x1b[J";

/// What `proxyctl drops` shows.
#[derive(Args, Debug, Clone)]
pub struct DropsArgs {
    /// Again every so many seconds, with rates, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", require_equals = true,
        value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub watch: Option<u64>,
    /// Ends after so many pages
    #[arg(long, value_name = "N", requires = "watch")]
    pub limit: Option<u64>,
    /// Reasons that nothing was dropped for, too
    #[arg(long)]
    pub all: bool,
}

/// What was counted at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Counted {
    /// By reason: of all, and of those that ended in a driver.
    reasons: BTreeMap<Reason, (u64, u64)>,
    /// By policy, direction and rule.
    denials: BTreeMap<[String; 3], u64>,
}

/// Everything that did not get through.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct DropsPage {
    at: String,
    /// When counting began.
    since: Option<String>,
    reasons: Vec<DropRow>,
    policies: Vec<DenialRow>,
}

/// One reason.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct DropRow {
    pub(super) reason: &'static str,
    pub(super) outcome: &'static str,
    pub(super) count: u64,
    /// Absent on the first page.
    pub(super) per_second: Option<f64>,
    /// How many of them ended in a driver (XDP).
    pub(super) in_driver: u64,
    pub(super) meaning: &'static str,
}

/// One rule of a policy, or the isolation by several.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct DenialRow {
    policy: String,
    /// Empty where the rules are not known.
    direction: String,
    /// Number of the rule, from zero, or `isolation`.
    rule: String,
    count: u64,
    per_second: Option<f64>,
}

/// Shows what there is, once or again and again.
pub(super) fn run(reader: &Reader, args: &DropsArgs, format: Format) -> anyhow::Result<String> {
    let since = began(reader);
    let mut before: Option<(Instant, Counted)> = None;
    let mut left = args.limit.unwrap_or(u64::MAX);
    loop {
        let now = (Instant::now(), Counted::read(reader)?);
        let earlier = before.as_ref().map(|(then, counted)| (now.0.duration_since(*then), counted));
        let page = DropsPage::new(&now.1, earlier, since, SystemTime::now(), Shown::of(args));
        let Some(seconds) = args.watch else { return format.one(&page) };
        let clear = if matches!(format, Format::Table | Format::Wide) { CLEAR } else { "" };
        print(&format!("{clear}{}", format.document(&page)?)).context("standard output")?;
        left -= 1;
        if left == 0 {
            return Ok(String::new());
        }
        before = Some(now);
        thread::sleep(Duration::from_secs(seconds));
    }
}

/// Which reasons are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shown {
    /// Those that something was dropped for.
    Counted,
    /// All.
    All,
}

impl Shown {
    fn of(args: &DropsArgs) -> Self {
        if args.all { Self::All } else { Self::Counted }
    }
}

/// The maps were pinned when they were made, and counting began.
fn began(reader: &Reader) -> Option<SystemTime> {
    fs::metadata(reader.pinned.pins.map("counters")).and_then(|metadata| metadata.modified()).ok()
}

/// Nobody gets what ends like this.
pub(super) fn is_lost(reason: Reason) -> bool {
    match reason.outcome() {
        Outcome::Drop | Outcome::Reject => true,
        Outcome::Pass | Outcome::Translate => false,
    }
}

impl Counted {
    pub(super) fn read(reader: &Reader) -> anyhow::Result<Self> {
        let early: BTreeMap<Reason, u64> = reader.pinned.early()?.into_iter().collect();
        let lost = reader.pinned.counters()?.into_iter().filter(|(reason, _)| is_lost(*reason));
        let with_early = |(reason, count)| (reason, (count, early.get(&reason).copied().unwrap_or(0)));
        let names = reader.record.policy_names().unwrap_or_default();
        let denials = reader.pinned.policy.denials.sums()?;
        Ok(Self { reasons: lost.map(with_early).collect(), denials: denials::named(&denials, &names) })
    }

    /// The reasons, with rates if there is an earlier count of so long ago.
    pub(super) fn rows(&self, earlier: Option<(Duration, &Self)>, shown: Shown) -> Vec<DropRow> {
        let row = |(reason, (count, in_driver)): (&Reason, &(u64, u64))| DropRow {
            reason: reason.text(),
            outcome: outcome(reason.outcome()),
            count: *count,
            per_second: earlier.map(|(time, then)| {
                rate(*count, then.reasons.get(reason).map_or(0, |(count, _)| *count), time)
            }),
            in_driver: *in_driver,
            meaning: reason.explanation().trim(),
        };
        let listed = |(_, (count, _)): &(&Reason, &(u64, u64))| shown == Shown::All || *count > 0;
        self.reasons.iter().filter(listed).map(row).collect()
    }
}

/// A second's share of what was added.
pub(super) fn rate(now: u64, then: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64().max(f64::EPSILON);
    // A tenth is as much as is shown.
    (now.saturating_sub(then) as f64 / seconds * 10.0).round() / 10.0
}

impl DropsPage {
    fn new(
        counted: &Counted,
        earlier: Option<(Duration, &Counted)>,
        since: Option<SystemTime>,
        at: SystemTime,
        shown: Shown,
    ) -> Self {
        let denial = |([policy, direction, rule], count): (&[String; 3], &u64)| DenialRow {
            policy: policy.clone(),
            direction: direction.clone(),
            rule: rule.clone(),
            count: *count,
            per_second: earlier.map(|(time, then)| {
                let key = [policy.clone(), direction.clone(), rule.clone()];
                rate(*count, then.denials.get(&key).copied().unwrap_or(0), time)
            }),
        };
        let time = |at: SystemTime| humantime::format_rfc3339_seconds(at).to_string();
        Self {
            at: time(at),
            since: since.map(time),
            reasons: counted.rows(earlier, shown),
            policies: counted.denials.iter().map(denial).collect(),
        }
    }
}

impl Page for DropsPage {
    fn text(&self) -> String {
        let Self { at, since, reasons, policies } = self;
        let since = since.as_ref().map_or("the maps were made", String::as_str);
        if reasons.is_empty() && policies.is_empty() {
            return format!("nothing was dropped or rejected since {since}, as of {at}\n");
        }
        let speed = |per_second: Option<f64>| per_second.map_or("-".into(), |rate| format!("{rate:.1}"));
        let reason = |row: &DropRow| {
            let name = vec![row.reason.into(), row.outcome.into(), row.count.to_string()];
            [name, vec![speed(row.per_second), row.in_driver.to_string(), row.meaning.into()]].concat()
        };
        let headings = ["REASON", "OUTCOME", "COUNT", "PER SECOND", "IN DRIVER", "MEANING"];
        let mut text = Tone::Quiet.paint(&format!("since {since}, as of {at}"));
        text.push_str("\n\n");
        text.push_str(&columns(headings.map(str::to_owned).into(), reasons.iter().map(reason).collect()));
        if !policies.is_empty() {
            let cells = |row: &DenialRow| {
                let name = vec![row.policy.clone(), row.direction.clone(), row.rule.clone()];
                [name, vec![row.count.to_string(), speed(row.per_second)]].concat()
            };
            let headings = ["POLICY", "DIRECTION", "RULE", "COUNT", "PER SECOND"];
            text.push('\n');
            text.push_str(&columns(headings.map(str::to_owned).into(), policies.iter().map(cells).collect()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::plain;
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn counted(refused: u64, denied: u64) -> Counted {
        let key = ["NetworkPolicy shop/\x1b[2Jweb", "ingress", "isolation"].map(str::to_owned);
        Counted {
            reasons: BTreeMap::from([
                (Reason::NoEndpoints, (refused, 1)),
                (Reason::NoLocalEndpoints, (0, 0)),
                (Reason::DeniedIngress, (denied, 0)),
            ]),
            denials: BTreeMap::from([(key, denied)]),
        }
    }

    #[test]
    fn drops_are_listed_by_reason_and_policy_and_say_what_they_mean() {
        let (then, now) = (counted(2, 3), counted(12, 3));
        let page = DropsPage::new(
            &now,
            Some((Duration::from_secs(4), &then)),
            Some(at(60)),
            at(120),
            Shown::Counted,
        );
        let expected = "\
since 1970-01-01T00:01:00Z, as of 1970-01-01T00:02:00Z

REASON          OUTCOME  COUNT  PER SECOND  IN DRIVER  MEANING
no-endpoints    reject   12     2.5         1          The Service has no usable backend anywhere (item 50).
denied-ingress  drop     3      0.0         0          The policies that the receiving pod is under do not let it get this (policy items 2, 6).

POLICY                           DIRECTION  RULE       COUNT  PER SECOND
NetworkPolicy shop/\\u{1b}[2Jweb  ingress    isolation  3      0.0
";
        assert_eq!(plain(&page.text()), expected);
        let json: serde_json::Value = serde_json::from_str(&Format::Json.one(&page).unwrap()).unwrap();
        assert_eq!(json["reasons"][0]["perSecond"], 2.5);
        assert_eq!(json["policies"][0]["policy"], "NetworkPolicy shop/\x1b[2Jweb");
    }

    #[test]
    fn nothing_dropped_is_a_sentence_and_every_reason_is_there_for_the_asking() {
        let none = Counted { denials: BTreeMap::new(), ..counted(0, 0) };
        let page = |shown| DropsPage::new(&none, None, Some(at(60)), at(120), shown);
        let sentence =
            "nothing was dropped or rejected since 1970-01-01T00:01:00Z, as of 1970-01-01T00:02:00Z\n";
        assert_eq!(page(Shown::Counted).text(), sentence);
        assert_eq!(page(Shown::All).reasons.len(), 3);
        assert!(is_lost(Reason::NoEndpoints) && !is_lost(Reason::FlowReply));
    }
}
