//! How policies look.

use std::fmt::Write as _;
use std::net::IpAddr;

use proxy_common::RuleSetId;
use serde::Serialize;

use crate::ctl::output::{Page, Row, printable, table};
use crate::observe::policy_names::{Digest, Direction, PolicyLine, PolicyName};

/// A policy in a list.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(in crate::ctl) struct PolicyRow {
    /// Absent for rules that no name is known of.
    policy: Option<PolicyName>,
    tier: Option<String>,
    priority: Option<u32>,
    /// Pods of this node that are under it, by name if that is known.
    pods: Vec<String>,
    rules: usize,
    /// Packets that its rules denied, or that none of its pods' rules let pass.
    denied: u64,
    /// Why it is not in force as written.
    refused: Option<String>,
    #[serde(skip)]
    label: String,
}

impl PolicyRow {
    pub(super) fn new(line: &PolicyLine, pods: &[Pod], rules: usize, denied: u64) -> Self {
        Self {
            policy: Some(line.policy.clone()),
            tier: line.tier.clone(),
            priority: line.priority,
            pods: labels(pods),
            rules,
            denied,
            refused: line.refused.clone(),
            label: line.policy.to_string(),
        }
    }

    /// Pods whose rules are not known.
    pub(super) fn closed(pods: &[Pod], denied: u64) -> Self {
        let refused = "rules not known yet, or no room";
        Self { refused: Some(refused.into()), ..Self::bare("(closed)".into(), pods, denied) }
    }

    /// A set of rules whose name is not known.
    pub(super) fn nameless(set: RuleSetId, pods: &[Pod], denied: u64) -> Self {
        Self::bare(format!("rule set #{}", Digest::from(set)), pods, denied)
    }

    fn bare(label: String, pods: &[Pod], denied: u64) -> Self {
        Self {
            policy: None,
            tier: None,
            priority: None,
            pods: labels(pods),
            rules: 0,
            denied,
            refused: None,
            label,
        }
    }

    pub(super) fn order(&self) -> (bool, Option<&String>, Option<u32>, &String) {
        (self.policy.is_none(), self.tier.as_ref(), self.priority, &self.label)
    }
}

fn labels(pods: &[Pod]) -> Vec<String> {
    let mut all: Vec<_> = pods.iter().map(Pod::label).collect();
    all.dedup();
    all
}

impl Row for PolicyRow {
    const COLUMNS: &'static [&'static str] =
        &["POLICY", "TIER", "PRIORITY", "PODS", "RULES", "DENIED", "STATE"];
    const WIDE: &'static [&'static str] = &["POD NAMES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.label.clone(),
            self.tier.clone().unwrap_or_else(|| "-".into()),
            self.priority.map_or("-".into(), |priority| priority.to_string()),
            self.pods.len().to_string(),
            self.rules.to_string(),
            self.denied.to_string(),
            self.refused.clone().map_or("in force".into(), |why| format!("refused: {why}")),
        ]
    }

    fn wide_cells(&self) -> Vec<String> {
        vec![self.pods.join(" ")]
    }
}

/// A pod of this node that a policy is about.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(in crate::ctl) struct Pod {
    pub(super) name: Option<String>,
    pub(super) address: IpAddr,
    pub(super) directions: Vec<Direction>,
}

impl Pod {
    fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.address.to_string())
    }
}

impl Row for Pod {
    const COLUMNS: &'static [&'static str] = &["POD", "ADDRESS", "DIRECTIONS"];

    fn cells(&self) -> Vec<String> {
        let directions: Vec<_> = self.directions.iter().map(ToString::to_string).collect();
        vec![self.label(), self.address.to_string(), directions.join(" ")]
    }
}

/// A rule of a policy.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(in crate::ctl) struct RuleRow {
    pub(super) direction: Direction,
    pub(super) index: u32,
    pub(super) id: Digest,
    pub(super) text: String,
    pub(super) denied: u64,
}

impl Row for RuleRow {
    const COLUMNS: &'static [&'static str] = &["RULE", "ID", "DENIED", "WHAT"];

    fn cells(&self) -> Vec<String> {
        vec![
            format!("{} {}", self.direction, self.index),
            self.id.to_string(),
            self.denied.to_string(),
            self.text.clone(),
        ]
    }
}

/// One policy in full.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(in crate::ctl) struct PolicyPage {
    pub(super) policy: PolicyName,
    pub(super) tier: Option<String>,
    pub(super) priority: Option<u32>,
    pub(super) refused: Option<String>,
    pub(super) pods: Vec<Pod>,
    pub(super) rules: Vec<RuleRow>,
    /// Packets of its pods that no rule let pass, be it this policy's or that of another one about the same pods.
    pub(super) denied_by_isolation: u64,
}

impl Page for PolicyPage {
    fn text(&self) -> String {
        let mut text = printable(&self.policy.to_string());
        if let (Some(tier), Some(priority)) = (&self.tier, self.priority) {
            // Writing to a String cannot fail.
            let _ = write!(text, ", tier {tier}, priority {priority}");
        }
        text.push('\n');
        if let Some(why) = &self.refused {
            let _ = writeln!(text, "refused: {}", printable(why));
        }
        let _ = writeln!(text, "packets of its pods that no rule let pass: {}", self.denied_by_isolation);
        if self.pods.is_empty() {
            text.push_str("\nno pod of this node is under it\n");
        } else {
            let _ = write!(text, "\n{}", table(&self.pods));
        }
        if self.rules.is_empty() {
            text.push_str(
                "\nwithout rules: nothing passes in its directions but what other policies let pass\n",
            );
        } else {
            let _ = write!(text, "\n{}", table(&self.rules));
        }
        text
    }
}
