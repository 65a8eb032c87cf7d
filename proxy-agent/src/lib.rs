//! The node agent as a library, in the order in which data flows:
//!
//! ```text
//! cli ─► config ─► run
//! source ─► parse ─► (proxy-model: world ─► plan) ─► kernel ─► maps and programs
//!                                                    └─► health, observe
//! ```

pub mod cli;
pub mod config;
pub mod ctl;
pub mod health;
pub mod kernel;
pub mod observe;
pub mod parse;
pub mod run;
pub mod source;
