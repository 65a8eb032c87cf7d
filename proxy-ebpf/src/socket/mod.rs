//! The socket road: a socket that asks for a frontend is given a backend before its first packet.
//!
//! ```text
//! connect ──► choose ──► peer (TCP: stream, by the socket; else in the socket)
//! datagram ─► choose ──► socketpeers (per socket and peer)
//! peer ─────► what the application is shown
//! ```
//!
//! Nothing is rewritten per packet, so a backend sees the client's own address, and a backend that is the
//! client itself is an ordinary local connection. Written once for both families over [`view::View`].
//!
//! What this road cannot do, because the kernel gives it no hook for it:
//! - SCTP sockets connect without a hook: their packets take the packet road.
//! - What `MSG_ERRQUEUE` names as the destination of a datagram that came back is the backend.
//! - A connected datagram socket sends without a hook: it is refused when it connects, not when it sends, and
//!   who removes its backend has to close it.

pub mod choose;
pub mod connect;
pub mod datagram;
pub mod peer;
pub mod stream;
pub mod view;
