//! The socket road.
