//! TCP as far as flow entries track it: which packets open a connection, and when one is over.

use crate::flow::FlowFlags;

/// The flag byte of a TCP header (byte 13).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Open.
    pub const SYN: u8 = 0x02;
    /// Abort.
    pub const RST: u8 = 0x04;
    /// Hand what has come to the application.
    pub const PSH: u8 = 0x08;
    /// Acknowledgement.
    pub const ACK: u8 = 0x10;

    /// The first packet of a connection: SYN without ACK and without anything that ends one.
    #[inline(always)]
    pub const fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST | Self::FIN) == Self::SYN
    }

    /// Any flag of `mask`.
    #[inline(always)]
    pub const fn any(self, mask: u8) -> bool {
        self.0 & mask != 0
    }

    /// The packet can only concern a connection that is being set up: a half-open entry is worth a lookup.
    /// A RST may answer a SYN.
    #[inline(always)]
    pub const fn concerns_setup(self) -> bool {
        self.any(Self::SYN | Self::RST)
    }

    /// An acknowledgement and nothing else, data apart. It too may answer a SYN: of a host for which an earlier connection
    /// of the same ports is not over (RFC 9293 section 3.10.7.4, in TIME-WAIT and in synchronized states).
    #[inline(always)]
    pub const fn only_acknowledges(self) -> bool {
        self.0 & (Self::SYN | Self::RST | Self::FIN | Self::PSH | Self::ACK) == Self::ACK
    }
}

/// The flags of one direction's entry after a packet of that direction.
#[inline(always)]
pub const fn advance(flags: FlowFlags, tcp: TcpFlags) -> FlowFlags {
    let mut next = flags;
    // Not what opens, be it with data or once more; in a simultaneous opening the client's answer does.
    if tcp.any(TcpFlags::ACK | TcpFlags::RST | TcpFlags::FIN) {
        next = next.without(FlowFlags::BRIEF);
    }
    if tcp.any(TcpFlags::FIN) {
        next = next.with(FlowFlags::FIN);
    }
    if tcp.any(TcpFlags::RST) {
        next = next.with(FlowFlags::RST);
    }
    next
}

/// Both directions are done, or one has aborted: the tuple may be used for a new connection, and the
/// collector may take the entries soon.
#[inline(always)]
pub const fn is_over(one: FlowFlags, other: FlowFlags) -> bool {
    one.has(FlowFlags::RST)
        || other.has(FlowFlags::RST)
        || (one.has(FlowFlags::FIN) && other.has(FlowFlags::FIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_syn_opens() {
        let cases = [
            (TcpFlags::SYN, true),
            (TcpFlags::SYN | 0xc0, true), // ECN set-up, RFC 3168
            (TcpFlags::SYN | TcpFlags::ACK, false),
            (TcpFlags::SYN | TcpFlags::RST, false),
            (TcpFlags::SYN | TcpFlags::FIN, false),
            (TcpFlags::ACK, false),
            (0, false),
        ];
        for (byte, opens) in cases {
            assert_eq!(TcpFlags(byte).opens(), opens, "{byte:#x}");
        }
    }

    #[test]
    fn an_acknowledgement_alone_opens_ends_and_carries_nothing() {
        let others = [TcpFlags::SYN, TcpFlags::RST, TcpFlags::FIN, TcpFlags::PSH];
        assert!(TcpFlags(TcpFlags::ACK).only_acknowledges() && !TcpFlags(0).only_acknowledges());
        assert!(!others.iter().any(|other| TcpFlags(TcpFlags::ACK | other).only_acknowledges()));
        assert!(!others.iter().any(|other| TcpFlags(*other).only_acknowledges()));
    }

    #[test]
    fn a_client_that_acknowledges_has_a_connection_and_one_that_opens_again_has_none() {
        let brief = FlowFlags::BRIEF.with(FlowFlags::ROUTED);
        let cases = [
            (TcpFlags::SYN, brief),
            (TcpFlags::SYN | TcpFlags::PSH, brief), // data in the SYN, RFC 7413
            (TcpFlags::SYN | TcpFlags::ACK, FlowFlags::ROUTED), // simultaneous open, RFC 9293 section 3.5
            (TcpFlags::ACK, FlowFlags::ROUTED),
            (TcpFlags::ACK | TcpFlags::PSH, FlowFlags::ROUTED),
            (TcpFlags::RST, FlowFlags::ROUTED.with(FlowFlags::RST)),
        ];
        for (byte, next) in cases {
            assert_eq!(advance(brief, TcpFlags(byte)), next, "{byte:#x}");
        }
    }

    #[test]
    fn a_connection_is_over_after_both_fins_or_one_rst() {
        let fin = advance(FlowFlags::default(), TcpFlags(TcpFlags::FIN | TcpFlags::ACK));
        let rst = advance(FlowFlags::default(), TcpFlags(TcpFlags::RST));
        let open = advance(FlowFlags::default(), TcpFlags(TcpFlags::ACK));
        assert!(!is_over(open, open) && !is_over(fin, open) && !is_over(open, fin));
        assert!(is_over(fin, fin) && is_over(rst, open) && is_over(open, rst));
    }
}
