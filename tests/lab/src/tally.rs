//! What a batch of probes came to: who answered how often and saw which source, and what failed how.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::wire::{Failure, Outcome};

/// What one server of a tally saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Name it gave itself.
    pub name: String,
    /// Attempts that it answered.
    pub count: u32,
    /// Source addresses that it saw.
    pub sources: BTreeSet<IpAddr>,
}

/// The result of one `Probe`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// By `ip:port` of the server.
    pub answered: BTreeMap<String, Server>,
    /// Attempts without an answer, by reason.
    pub failed: BTreeMap<Failure, u32>,
    /// What `getpeername` said on connected sockets that were answered.
    pub peer_names: BTreeSet<SocketAddr>,
}

impl Tally {
    /// Adds one attempt.
    pub fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Answered(answer) => {
                let server = self.answered.entry(answer.at.clone()).or_default();
                server.name.clone_from(&answer.name);
                server.count += 1;
                server.sources.insert(answer.peer.ip().to_canonical());
            }
            Outcome::Failed(failure) => *self.failed.entry(failure.clone()).or_default() += 1,
        }
    }

    /// Adds another tally.
    pub fn merge(&mut self, other: Self) {
        for (at, server) in other.answered {
            let own = self.answered.entry(at).or_default();
            own.name = server.name;
            own.count += server.count;
            own.sources.extend(server.sources);
        }
        for (failure, count) in other.failed {
            *self.failed.entry(failure).or_default() += count;
        }
        self.peer_names.extend(other.peer_names);
    }

    /// Attempts that were answered.
    #[must_use]
    pub fn answers(&self) -> u32 {
        self.answered.values().map(|server| server.count).sum()
    }

    /// Attempts that were not.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failed.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (at, server) in &self.answered {
            let sources: Vec<String> = server.sources.iter().map(ToString::to_string).collect();
            parts.push(format!("{at} {}x (saw {})", server.count, sources.join(" ")));
        }
        for (failure, count) in &self.failed {
            parts.push(format!("{failure} {count}x"));
        }
        f.write_str(&if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Answer;

    #[test]
    fn a_tally_counts_servers_sources_and_failures() {
        let mut tally = Tally::default();
        let answer = |at: &str, peer: &str| {
            Outcome::Answered(Answer {
                at: at.to_owned(),
                name: "demo.web".to_owned(),
                peer: peer.parse().unwrap(),
                count: 1,
                echo: "1".to_owned(),
            })
        };
        tally.add(&answer("10.244.1.2:80", "10.244.2.9:4000"));
        tally.add(&answer("10.244.1.2:80", "[::ffff:10.244.2.9]:4001"));
        tally.add(&Outcome::Failed(Failure::Refused));
        assert_eq!(tally.to_string(), "10.244.1.2:80 2x (saw 10.244.2.9), refused 1x");
        assert_eq!((tally.answers(), tally.failures()), (2, 1));
    }

    #[test]
    fn a_tally_survives_the_wire() {
        let mut tally = Tally::default();
        tally.add(&Outcome::Failed(Failure::Timeout));
        tally.add(&Outcome::Failed(Failure::Errno("EPERM".to_owned())));
        let text = serde_json::to_string(&tally).unwrap();
        assert_eq!(text, r#"{"answered":{},"failed":{"timeout":1,"EPERM":1},"peer_names":[]}"#);
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally);
    }
}
