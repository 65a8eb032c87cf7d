//! What a measurement is: the goals, figures that answer them, the statistics behind a figure, and the report of all.
//!
//! ```text
//! a bench ─► Figure ─► Part ─► target/bench/<what>.json ─► Summary ─► terminal table, target/bench/report.html
//! ```
//!
//! It does not know how anything is measured, and of Sluice nothing but the goals.

pub mod figure;
pub mod goal;
pub mod packets;
pub mod page;
pub mod part;
pub mod plot;
pub mod pressure;
pub mod statistics;
pub mod summary;
pub mod table;

pub use figure::{Control, Figure, Verdict};
pub use goal::{Goal, GoalId, Unit};
pub use part::{Mode, Part, Version};
pub use plot::{Axis, Plot, Series};
pub use statistics::Estimate;
