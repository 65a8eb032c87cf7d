//! Where log lines go and how they look: standard error, as text for people or one JSON object a line.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::cli::{LogArgs, LogFormat};

/// Crates that log each failed request at the level of errors; `source` says once that a watch failed, and why.
const QUIET: &str = "kube_client=off,kube_runtime=off";

/// The filter makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("--log-level: {filter:?} is not a filter such as info or warn,proxy_agent::source=debug")]
pub struct BadFilter {
    filter: String,
    source: tracing_subscriber::filter::ParseError,
}

/// Sets up logging for the process; called once.
///
/// # Errors
/// When the filter cannot be read.
pub fn init(args: &LogArgs) -> Result<(), BadFilter> {
    // Said before what was asked for, so that a filter that names a crate has the last word.
    let filter = EnvFilter::try_new(format!("{QUIET},{}", args.log_level))
        .map_err(|source| BadFilter { filter: args.log_level.clone(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init()
        }
    }
    Ok(())
}
