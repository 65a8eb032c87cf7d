//! Packets that nobody should send: golden packets cut, bent and glued together, through the real programs.
//!
//! Whatever comes in, a program ends with a code and exactly one reason of the table, leaves what it does not
//! translate as it was, keeps right checksums right, and remembers nothing of what is no packet. What a packet is
//! says [`judge`], written from the RFCs and apart from the programs.

#![expect(
    unreachable_pub,
    reason = "a test target has no outside; `pub` marks what a module offers to the others"
)]
#![expect(clippy::unwrap_used, reason = "where a test cannot unwrap, it has failed")]

mod corpus;
mod judge;
mod mutation;
mod numbers;

mod survival;
