//! The one-way TCP state machine: the director sees only the client's packets.
//!
//! The table is IPVS's INPUT-ONLY table (tcp_states in net/netfilter/ipvs/ip_vs_proto_tcp.c). States that
//! cannot occur with one-way traffic are kept, so that the table is complete.

use crate::director::real_server::Activity;
use crate::packet::protocol;
use crate::packet::tcp::Flags;

/// State of a connection. UDP has the single state `Udp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Before the first packet.
    None,
    /// The client sent an ACK: its handshake is complete, or the connection began elsewhere.
    Established,
    /// Never with one-way traffic: the real server opened the connection.
    SynSent,
    /// The client sent a SYN and nothing further.
    SynRecv,
    /// The client closed its side; the real server may still send.
    FinWait,
    /// The client closed before its handshake was complete.
    TimeWait,
    /// The client sent a RST, or its first packet was a FIN or RST.
    Close,
    /// Never with one-way traffic: the real server closed first.
    CloseWait,
    /// Never with one-way traffic: both sides closed.
    LastAck,
    /// Never with one-way traffic.
    Listen,
    /// Never with this table: IPVS reaches it only with `secure_tcp`.
    SynAck,
    /// One datagram, whose source may be forged.
    UdpFirst,
    /// More datagrams than one. Datagrams have no further states; only the timeout counts.
    Udp,
}

impl State {
    /// The state after the first packet. A flow that a flood left without an entry is known by an earlier packet.
    pub const fn first(protocol: u8, event: Event, is_known: bool) -> State {
        match (protocol, is_known) {
            (protocol::UDP, true) => State::Udp,
            (protocol::UDP, false) => State::UdpFirst,
            _ => State::None.next(event),
        }
    }

    /// Whether the client sent more than a packet that anyone can send with a forged source.
    pub const fn is_confirmed(self) -> bool {
        !matches!(self, State::None | State::SynRecv | State::UdpFirst)
    }

    /// The word in listings (tcp_state_name_table of IPVS).
    pub const fn name(self) -> &'static str {
        match self {
            State::None => "NONE",
            State::Established => "ESTABLISHED",
            State::SynSent => "SYN_SENT",
            State::SynRecv => "SYN_RECV",
            State::FinWait => "FIN_WAIT",
            State::TimeWait => "TIME_WAIT",
            State::Close => "CLOSE",
            State::CloseWait => "CLOSE_WAIT",
            State::LastAck => "LAST_ACK",
            State::Listen => "LISTEN",
            State::SynAck => "SYNACK",
            State::UdpFirst | State::Udp => "UDP",
        }
    }

    /// Whether it counts as an active connection of its real server (tcp_state_active_table of IPVS). UDP
    /// never does.
    pub const fn is_active(self) -> bool {
        matches!(self, State::Established | State::SynSent | State::SynRecv | State::SynAck)
    }

    /// In which of its real server's two counts a connection in this state is counted.
    pub const fn activity(self) -> Activity {
        if self.is_active() { Activity::Active } else { Activity::Inactive }
    }

    /// Whether the client has closed the connection: a new SYN on the same ports then begins a new one (IPVS,
    /// `conn_reuse_mode` = 3).
    pub const fn is_closing(self) -> bool {
        matches!(self, State::FinWait | State::TimeWait)
    }

    /// The state after `event`.
    #[rustfmt::skip]
    pub const fn next(self, event: Event) -> State {
        use State::{Close, CloseWait, Established, FinWait, LastAck, Listen, None, SynAck, SynRecv, SynSent, TimeWait, Udp, UdpFirst};
        let row = match self {
            //              SYN          FIN        ACK          RST
            None        => [SynRecv,     Close,     Established, Close],
            Established => [Established, FinWait,   Established, Close],
            SynSent     => [Established, SynSent,   SynSent,     Close],
            // A RST does not end a half-open entry, because anyone can forge it.
            SynRecv     => [SynRecv,     TimeWait,  Established, SynRecv],
            FinWait     => [SynRecv,     FinWait,   FinWait,     Close],
            TimeWait    => [SynRecv,     TimeWait,  TimeWait,    Close],
            Close       => [SynRecv,     Close,     Close,       Close],
            CloseWait   => [SynRecv,     CloseWait, CloseWait,   Close],
            LastAck     => [SynRecv,     LastAck,   Close,       LastAck],
            Listen      => [SynRecv,     Listen,    Listen,      Listen],
            SynAck      => [SynRecv,     TimeWait,  Established, Close],
            UdpFirst | Udp => return Udp,
        };
        match event {
            Event::Syn => row[0],
            Event::Fin => row[1],
            Event::Ack => row[2],
            Event::Rst => row[3],
            Event::Datagram => self,
        }
    }
}

/// The effect of a packet on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Opens a connection, whatever other flags but RST are set.
    Syn,
    /// The client has no more to send.
    Fin,
    /// Any other segment of an open connection.
    Ack,
    /// Comes first among the flags.
    Rst,
    /// A UDP datagram, or a segment with none of the four flags. Deviation: IPVS treats such a segment as a
    /// close; here it counts as a scan and changes nothing.
    Datagram,
}

impl Event {
    /// The first match of RST, SYN, FIN, ACK, in the order of tcp_state_idx() of IPVS.
    pub const fn of(flags: Flags) -> Event {
        if flags.has(Flags::RST) {
            Event::Rst
        } else if flags.has(Flags::SYN) {
            Event::Syn
        } else if flags.has(Flags::FIN) {
            Event::Fin
        } else if flags.has(Flags::ACK) {
            Event::Ack
        } else {
            Event::Datagram
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(events: &[Event]) -> State {
        events.iter().fold(State::None, |state, event| state.next(*event))
    }

    #[test]
    fn a_life_from_syn_to_fin() {
        assert_eq!(after(&[Event::Syn]), State::SynRecv);
        assert_eq!(after(&[Event::Syn, Event::Ack]), State::Established);
        assert_eq!(after(&[Event::Syn, Event::Ack, Event::Fin, Event::Ack]), State::FinWait);
        assert_eq!(after(&[Event::Syn, Event::Ack, Event::Fin, Event::Syn]), State::SynRecv);
    }

    #[test]
    fn a_reset_closes_what_is_established_and_leaves_what_is_half_open() {
        assert_eq!(after(&[Event::Syn, Event::Rst]), State::SynRecv);
        assert_eq!(after(&[Event::Syn, Event::Ack, Event::Rst]), State::Close);
        assert_eq!(after(&[Event::Syn, Event::Ack, Event::Rst, Event::Ack]), State::Close);
    }

    #[test]
    fn reset_comes_first_and_a_scan_changes_nothing() {
        assert_eq!(Event::of(Flags(Flags::RST | Flags::ACK)), Event::Rst);
        assert_eq!(Event::of(Flags(Flags::SYN | 0xc0)), Event::Syn);
        assert_eq!(Event::of(Flags(Flags::FIN | Flags::ACK)), Event::Fin);
        let scan = Event::of(Flags(Flags::PSH | Flags::URG));
        assert_eq!(after(&[Event::Syn, scan]), State::SynRecv);
        assert_eq!(after(&[Event::Syn, Event::Ack, scan]), State::Established);
        assert_eq!(State::Udp.next(Event::Datagram), State::Udp);
    }

    #[test]
    fn an_ack_or_a_second_datagram_confirms_a_flow() {
        let first = |protocol, event| State::first(protocol, event, false);
        let (tcp, udp) = (protocol::TCP, protocol::UDP);
        assert_eq!(first(tcp, Event::Syn), State::SynRecv);
        assert_eq!(first(udp, Event::Datagram), State::UdpFirst);
        assert_eq!(State::first(udp, Event::Datagram, true), State::Udp);
        assert_eq!(State::first(tcp, Event::Ack, true), State::Established);
        assert_eq!(State::UdpFirst.next(Event::Datagram), State::Udp);
        let unconfirmed = [State::None, State::SynRecv, State::UdpFirst];
        assert!(unconfirmed.iter().all(|state| !state.is_confirmed()));
        assert!(
            State::Udp.is_confirmed() && State::Established.is_confirmed() && State::Close.is_confirmed()
        );
    }
}
