//! Looks things up in the maps: what is asked of them is one question per file, whatever road asks.

pub mod algorithm;
pub mod backend;
pub mod device;
pub mod frontend;
pub mod load;
pub mod net;
pub mod owner;
pub mod range;
pub mod replaced;
pub mod seen;
pub mod source;
