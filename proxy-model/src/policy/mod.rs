//! From policies to what the kernel programs must know of them: rule sets, classes of peers, and verdicts.
//!
//! ```text
//! world.touched ─► subjects (local pods ─► rule sets) ─► peers (addresses ─► classes) ─► verdicts (their pages)
//!                                                                                          │ difference, order
//!                                                                                          ▼
//!                                                                                        writes
//! ```
//!
//! Names are digests of what they stand for, so a plan depends on nothing but the facts (decision 0020). Nothing here
//! knows a Service.

mod class;
mod compile;
mod digest;
mod explain;
mod maps;
mod member;
mod middle;
mod model;
mod networks;
mod pages;
mod peers;
mod planner;
mod room;
mod rules;
mod selector;
mod subject;
mod verdict;
mod write;

pub use explain::{Explanation, Lack, Nearest, Outcome, Question, Side, explain};
pub use planner::PolicyPlanner;
pub use write::{
    AddressWrite, PageMark, PolicyActual, PolicyCapacity, PolicyName, PolicyNames, PolicyPlan, PolicyRefusal,
    PolicyRefused, PolicyTable, PolicyUsage, PolicyWrite, RuleName,
};
