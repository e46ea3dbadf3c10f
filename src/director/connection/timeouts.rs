//! How long a connection lasts without a packet, by state. The defaults are those of IPVS (tcp_timeouts in
//! ip_vs_proto_tcp.c).

use std::time::Duration;

use super::State;

/// The three that operators can set (`ipvsadm --set tcp tcpfin udp`); the others are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Between two packets of an open TCP connection.
    pub established: Duration,
    /// After the client's FIN.
    pub fin_wait: Duration,
    /// Between two datagrams of a flow.
    pub udp: Duration,
}

impl Default for Timeouts {
    /// The defaults of IPVS.
    fn default() -> Timeouts {
        Timeouts {
            established: Duration::from_secs(900),
            fin_wait: Duration::from_secs(120),
            udp: Duration::from_secs(300),
        }
    }
}

impl Timeouts {
    /// How long an entry in this state stays without a packet.
    pub const fn of(&self, state: State) -> Duration {
        match state {
            State::Established => self.established,
            State::FinWait => self.fin_wait,
            State::UdpFirst | State::Udp => self.udp,
            State::None => Duration::from_secs(2),
            State::SynSent | State::TimeWait | State::Listen | State::SynAck => Duration::from_secs(120),
            State::SynRecv | State::CloseWait => Duration::from_secs(60),
            State::LastAck => Duration::from_secs(30),
            State::Close => Duration::from_secs(10),
        }
    }
}
