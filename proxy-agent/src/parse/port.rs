//! Port numbers and protocols.

use proxy_common::{Port, Proto};

use super::Fault;

/// A port number of 1 to 65535.
pub(super) fn port(number: i32) -> Result<Port, Fault> {
    match u16::try_from(number) {
        Ok(number) if number > 0 => Ok(Port::new(number)),
        Ok(_) | Err(_) => Err(Fault::NotAPort(number)),
    }
}

/// A port number, or none: unset and zero.
pub(super) fn optional_port(number: Option<i32>) -> Result<Option<Port>, Fault> {
    match number {
        None | Some(0) => Ok(None),
        Some(number) => port(number).map(Some),
    }
}

/// A protocol; unset is TCP.
pub(super) fn protocol(name: Option<&str>) -> Result<Proto, Fault> {
    match name {
        None | Some("" | "TCP") => Ok(Proto::TCP),
        Some("UDP") => Ok(Proto::UDP),
        Some("SCTP") => Ok(Proto::SCTP),
        Some(other) => Err(Fault::NotAProtocol(other.to_owned())),
    }
}
