//! Pages about the process itself, by the paths that Kubernetes' own components have: what it was told (`/configz`,
//! `/flagz`) and what it is (`/statusz`). Fixed when the agent starts.

use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::Value;

/// Paths of the metrics server.
pub(super) const PATHS: [&str; 6] = ["/configz", "/flagz", "/healthz", "/metrics", "/proxyMode", "/statusz"];
const PROGRAM: &str = "proxy-agent";

/// What the process was told and when it started.
#[derive(Clone, Debug)]
pub struct Pages {
    config: Value,
    flags: Vec<(String, String)>,
    started: SystemTime,
}

impl Pages {
    /// The configuration in force, and the flags as they were given or assumed, from a process that started then.
    pub fn new(config: Value, flags: Vec<(String, String)>, started: SystemTime) -> Self {
        Self { config, flags, started }
    }

    /// JSON: the configuration in force.
    pub(super) fn configz(&self) -> String {
        self.config.to_string()
    }

    /// One flag a line.
    pub(super) fn flagz(&self) -> String {
        let mut text = format!("{PROGRAM} flagz\n\n");
        for (name, value) in &self.flags {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name}={value}");
        }
        text
    }

    /// Version, age and paths.
    pub(super) fn statusz(&self, now: SystemTime) -> String {
        let up = now.duration_since(self.started).unwrap_or_default().as_secs();
        format!(
            "{PROGRAM} statusz\n\nStarted: {}\nUp: {}\nBinary version: {}\nMap layout: {}\nPaths: {}\n",
            humantime::format_rfc3339_seconds(self.started),
            humantime::format_duration(std::time::Duration::from_secs(up)),
            env!("CARGO_PKG_VERSION"),
            proxy_common::maps::LAYOUT_VERSION,
            PATHS.join(" "),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_pages_say_what_the_process_was_told_and_how_old_it_is() {
        let flags =
            vec![("node-name".to_owned(), "n1".to_owned()), ("uplinks".to_owned(), "auto".to_owned())];
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let pages = Pages::new(serde_json::json!({"a": 1}), flags, started);
        assert_eq!(pages.configz(), "{\"a\":1}");
        assert_eq!(pages.flagz(), "proxy-agent flagz\n\nnode-name=n1\nuplinks=auto\n");
        let expected = format!(
            "proxy-agent statusz\n\nStarted: 1970-01-01T00:16:40Z\nUp: 1m 30s\nBinary version: {}\nMap layout: {}\n\
             Paths: /configz /flagz /healthz /metrics /proxyMode /statusz\n",
            env!("CARGO_PKG_VERSION"),
            proxy_common::maps::LAYOUT_VERSION
        );
        assert_eq!(pages.statusz(started + Duration::from_secs(90)), expected);
    }
}
