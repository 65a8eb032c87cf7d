//! The node agent as a library: source → parse → model → plan → apply.
