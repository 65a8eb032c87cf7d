//! How a trace looks.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde::Serialize;

use crate::ctl::output::{Page, printable};

/// What became of a packet, hook by hook.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trace {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) protocol: String,
    pub(super) steps: Vec<Step>,
    /// Where it ended: `pod`, `node`, `wire`, `dropped`, `rejected` or `elsewhere`.
    pub(super) end: End,
    /// The same in words.
    pub(super) text: String,
}

/// Where a packet ends.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) enum End {
    /// In a pod of this node.
    Pod,
    /// In this node's own stack.
    Node,
    /// On its way to another node, or out of the cluster.
    Wire,
    /// Nowhere.
    Dropped,
    /// Nowhere, and the client is told.
    Rejected,
    /// At a device that no program hangs on, or without a route.
    Elsewhere,
}

/// A hook.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    /// Name of the program; `socket` for what a connect(2) would have done.
    pub(super) hook: &'static str,
    /// The hook's device.
    pub(super) device: Option<String>,
    pub(super) before: Ends,
    /// After it, if the packet goes on.
    pub(super) after: Option<Ends>,
    pub(super) reason: &'static str,
    pub(super) outcome: &'static str,
    pub(super) meaning: &'static str,
}

/// Addresses and ports of a packet.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ends {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

impl Ends {
    fn text(self) -> String {
        format!("{} -> {}", self.source, self.destination)
    }
}

impl Page for Trace {
    fn text(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let device = step.device.as_ref().map(|device| format!(" at {}", printable(device)));
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}{}: {} ({})",
                step.hook,
                device.unwrap_or_default(),
                step.reason,
                step.outcome
            );
            let _ = writeln!(text, "  {} {}", step.before.text(), self.protocol);
            if let Some(after) = step.after.filter(|after| *after != step.before) {
                let _ = writeln!(text, "  becomes {}", after.text());
            }
            let _ = writeln!(text, "  {}", step.meaning.trim());
        }
        let _ = writeln!(text, "{}", printable(&self.text));
        text
    }
}
