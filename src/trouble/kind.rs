//! What a kind of trouble means for others: for the readiness probe, and for the fields of the log.

use super::{Found, Trouble, TroubleKind};

impl TroubleKind {
    /// Whether no packet reaches its destination because of it, so that another host should do the work.
    pub const fn stops_packets(self) -> bool {
        match self {
            TroubleKind::InterfaceMissing
            | TroubleKind::InterfaceDown
            | TroubleKind::DeviceMissing
            | TroubleKind::DeviceDown
            | TroubleKind::ChangeMissing
            | TroubleKind::NothingServed
            | TroubleKind::WorkersStopped
            | TroubleKind::ControlStuck => true,
            TroubleKind::HostUnknown
            | TroubleKind::SettingMissing
            | TroubleKind::ServiceUnserved
            | TroubleKind::NoRoute
            | TroubleKind::ProtocolUnreachable
            | TroubleKind::Unreachable
            | TroubleKind::PathMtuLowered
            | TroubleKind::TransmitErrors
            | TroubleKind::PacketsLost
            | TroubleKind::ApplicationDown
            | TroubleKind::UnknownPeer
            | TroubleKind::PacketsRefused
            | TroubleKind::VipElsewhere
            | TroubleKind::VipClaimed
            | TroubleKind::StrayPackets
            | TroubleKind::TunnelHandler
            | TroubleKind::RealServerDown
            | TroubleKind::QuorumLost
            | TroubleKind::FailOpen
            | TroubleKind::CheckWarning
            | TroubleKind::CheckImpossible
            | TroubleKind::ChecksLate => false,
        }
    }

    /// Whether the subject is the RIP of a real server.
    pub const fn is_about_real_server(self) -> bool {
        matches!(
            self,
            TroubleKind::NoRoute
                | TroubleKind::ProtocolUnreachable
                | TroubleKind::Unreachable
                | TroubleKind::PathMtuLowered
                | TroubleKind::TransmitErrors
                | TroubleKind::RealServerDown
                | TroubleKind::CheckWarning
        )
    }
}

impl Found {
    /// The text without the remedy.
    pub fn words(&self) -> &str {
        self.text.split_once("; ").map_or(self.text.as_str(), |(words, _)| words)
    }
}

/// What stops packets: the reasons why a daemon is not ready.
pub fn reasons(troubles: &[Trouble]) -> impl Iterator<Item = &Trouble> {
    troubles.iter().filter(|trouble| trouble.found.kind.stops_packets())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Moment;
    use crate::trouble::Source;

    #[test]
    fn what_leaves_packets_flowing_is_no_reason() {
        let trouble = |kind| Trouble {
            source: Source::Host,
            found: Found { kind, subject: "eth0".to_owned(), text: "words; remedy; more".to_owned() },
            since: Moment::ZERO,
        };
        let all: Vec<Trouble> = TroubleKind::ALL.iter().map(|kind| trouble(*kind)).collect();
        let found: Vec<&str> = reasons(&all).map(|trouble| trouble.found.kind.label()).collect();
        let expected = [
            "interface_missing",
            "interface_down",
            "device_missing",
            "device_down",
            "change_missing",
            "nothing_served",
            "workers_stopped",
            "control_stuck",
        ];
        assert_eq!(found, expected);
        assert_eq!(all[0].found.words(), "words");
        let bare = Found { text: "words".to_owned(), ..all[0].found.clone() };
        assert_eq!(bare.words(), "words");
    }

    #[test]
    fn troubles_of_a_path_and_of_checks_are_about_their_real_server() {
        let about = TroubleKind::ALL.iter().filter(|kind| kind.is_about_real_server());
        let about: Vec<&str> = about.map(|kind| kind.label()).collect();
        let expected = [
            "no_route",
            "protocol_unreachable",
            "unreachable",
            "path_mtu_lowered",
            "transmit_errors",
            "real_server_down",
            "check_warning",
        ];
        assert_eq!(about, expected);
    }
}
