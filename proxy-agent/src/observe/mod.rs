//! What people and their tools see of a running agent: log lines, metrics, and the state behind the health checks.

pub mod log;
pub mod maps;
pub mod metrics;
pub mod status;

pub use metrics::Metrics;
pub use status::Status;
