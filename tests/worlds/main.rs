//! Random worlds through the planner, real maps and the packet programs, against the naive evaluator that shares no
//! code with them. What an attempt is, and what becomes of it by the contract, is said in `proxy-model`'s own tests;
//! here the answer is a packet's.

#![expect(
    unreachable_pub,
    reason = "a test target has no outside; `pub` marks what a module offers to the others"
)]
#![expect(clippy::unwrap_used, reason = "where a test cannot unwrap, it has failed")]

mod agreement;
mod asked;
mod stage;

#[path = "../../proxy-model/tests/model/fixture.rs"]
#[expect(dead_code, reason = "short ways for other tests too")]
mod fixture;
#[path = "../../proxy-model/tests/model/kernel.rs"]
#[expect(dead_code, reason = "it can be asked itself, where no program is")]
mod kernel;
#[path = "../../proxy-model/tests/model/random.rs"]
#[expect(dead_code, reason = "orders of events are tested without programs")]
mod random;
#[path = "../../proxy-model/tests/reference/mod.rs"]
mod reference;
