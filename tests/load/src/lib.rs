//! What the load generator is asked and what it answers, and the arithmetic of comparing answers.
//!
//! ```text
//! order ─► sluice-load ─► report ─► pairing (rounds there and back) ─► control (A/A)
//! ```
//!
//! Knows nothing of labs, Services or who is compared.

pub mod chance;
pub mod control;
pub mod order;
pub mod pairing;
pub mod spread;
