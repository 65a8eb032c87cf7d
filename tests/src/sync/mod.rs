//! What `cargo xtask bench sync` is made of: a cluster of any size, an API server that only tells of it, the agent that
//! reads it, and the maps in which it can be seen. It knows nothing of figures and goals.

pub mod agent;
pub mod api;
pub mod cluster;
pub mod view;
