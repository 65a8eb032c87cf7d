//! A contest: the same cluster, served by nobody, by Sluice on each road and by the real kube-proxy's rules, each in namespaces of
//! its own on one machine, asked the same things in turn.
//!
//! ```text
//! contender ─► stage (lab, servers, clients, agent) ─┐
//!              feed (objects ─► kube-proxy's rules)┴► round (scenes, there and back) ─► answer (goals) ─► part of the report
//! ```
//!
//! It knows what is compared and how; not what a Service is to the product.

pub mod answer;
pub mod churn;
pub mod contender;
pub mod driver;
pub mod feed;
pub mod field;
pub mod rival;
pub mod round;
pub mod scene;
pub mod stage;
pub mod table;
pub mod world;
