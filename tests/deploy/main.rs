//! What is deployed, against a real API server and a real kernel: every manifest is accepted, the role is enough and
//! nothing of it is too much. Needs root; the control plane is built once and cached.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod manifest;
mod plugin;
mod role;
