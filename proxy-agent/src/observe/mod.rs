//! What people and their tools see of a running agent: log lines, metrics, and the state behind the health checks.

pub(crate) mod denials;
pub mod event;
pub mod explain;
pub mod log;
pub mod maps;
pub mod metrics;
pub mod policy_names;
pub mod report;
pub mod status;

pub use event::Events;
pub use metrics::Metrics;
pub use status::Status;

/// An error and its causes on one line. A cause that the message before it quotes already is not said twice.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::causes;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Step {
        text: &'static str,
        source: Option<std::io::Error>,
    }

    #[test]
    fn each_cause_is_said_once() {
        let cause = || Some(std::io::Error::other("the disk is full"));
        let silent = Step { text: "cannot write the file", source: cause() };
        let quoting = Step { text: "cannot write: the disk is full", source: cause() };
        assert_eq!(causes(&silent), "cannot write the file: the disk is full");
        assert_eq!(causes(&quoting), "cannot write: the disk is full");
    }
}
