//! One line of JSON each way: what the client is to do for a fraction of a second, and what came of it.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::spread::Spread;

/// Bytes of a request, also of each datagram that is answered.
pub const REQUEST: usize = 64;
/// Bytes of the answer that ends a connection.
pub const ANSWER: usize = 128;
/// Bytes of a datagram that is not answered: the smallest Ethernet frame.
pub const DATAGRAM: usize = 18;
/// Bytes of one write of a stream.
pub const CHUNK: usize = 128 * 1024;

/// What the first byte of a connection or datagram asks the server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wish {
    /// [`ANSWER`] bytes, and the end of the connection.
    Close = b'c',
    /// Whatever is sent, until the end.
    Echo = b'r',
    /// Nothing; only the end is answered.
    Swallow = b's',
    /// How many datagrams were swallowed since the last such question.
    Count = b'q',
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Connect, request, response, close by the server: again and again (`TCP_CRR`).
    Crr,
    /// Requests and responses on one connection (`TCP_RR`).
    Rr,
    /// The same with datagrams on a connected socket (`UDP_RR`).
    UdpRr,
    /// The same with the address given at each sending.
    UdpSendRr,
    /// As many bytes as go through (`TCP_STREAM`).
    Stream,
    /// As many small datagrams as go out.
    Datagrams,
    /// So many connections that stay open, each asked in its turn, 1,000 requests in a second.
    Held(u32),
    /// Connections without a request, until one ends like that.
    Until(Turn),
}

/// What a change is to bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// Connections stand.
    Served,
    /// They do not, whatever it is that happens to them.
    Refused,
}

/// What is asked of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What to do.
    pub mode: Mode,
    /// Where; each transaction of [`Mode::Crr`] takes one by chance.
    pub targets: Vec<SocketAddr>,
    /// For how long, in milliseconds; an empty line ends it earlier.
    pub millis: u64,
    /// At most so many transactions.
    pub limit: u64,
    /// What chance begins with.
    pub seed: u64,
    /// The processor to run on.
    pub cpu: Option<usize>,
    /// Processes whose processor time is added up.
    pub servers: Vec<i32>,
    /// Where to write each duration of a transaction: nanoseconds as `u32`, little endian.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<PathBuf>,
}

/// What came of an order. Durations are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Transactions that ended as they should; datagrams sent; bytes of a stream.
    pub transactions: u64,
    /// Those that did not.
    pub failures: u64,
    /// The first few of these.
    pub first_failures: Vec<String>,
    /// How long it took.
    pub nanos: u64,
    /// Processor time of the client.
    pub client_cpu: u64,
    /// Processor time of the servers.
    pub server_cpu: u64,
    /// How many datagrams arrived.
    pub arrived: u64,
    /// When what was waited for came, by the monotonic clock, which is the same for all processes.
    #[serde(default)]
    pub ended: u64,
    /// `connect()`.
    pub connect: Spread,
    /// Whole transactions.
    pub whole: Spread,
}

impl Report {
    /// Transactions per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.transactions as f64 * 1e9 / self.nanos.max(1) as f64
    }

    /// Microseconds of processor time per transaction, both ends.
    #[must_use]
    pub fn cpu_micros(&self) -> f64 {
        (self.client_cpu + self.server_cpu) as f64 / 1e3 / self.transactions.max(1) as f64
    }

    /// The part of one processor that both ends had, of 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        (self.client_cpu + self.server_cpu) as f64 / self.nanos.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_cost_and_share_are_of_the_whole_slice() {
        let report = Report {
            transactions: 5_000,
            nanos: 500_000_000,
            client_cpu: 300_000_000,
            server_cpu: 150_000_000,
            ..Report::default()
        };
        assert_eq!((report.rate(), report.cpu_micros(), report.share()), (10_000.0, 90.0, 0.9));
    }
}
