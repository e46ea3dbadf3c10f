//! Which packets the kernel has dropped around the daemon, and when it last did.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::clock::Clock;
use crate::metrics::losses::{LossCause, Losses};
use crate::metrics::recent::{Grown, Recent};
use crate::time::Moment;
use crate::trouble::{Found, TroubleKind};

/// How long a loss counts as present.
const PRESENT_FOR: Duration = Duration::from_secs(10);

/// A device, or the daemon's socket, and the place of the loss in it.
type Place = (String, LossCause);

/// The losses with their times.
pub(super) struct Lost {
    losses: Arc<Losses>,
    recent: Mutex<Recent<Place>>,
    clock: Clock,
}

impl Lost {
    pub(super) fn new(losses: Arc<Losses>, clock: Clock) -> Lost {
        Lost { losses, recent: Mutex::default(), clock }
    }

    /// Those since the start, the latest first. Call it every few seconds.
    pub(super) fn list(&self) -> Vec<Grown<Place>> {
        let counts = self.losses.read().into_iter().map(|(device, cause, count)| ((device, cause), count));
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.look(counts, self.clock.now());
        recent.list()
    }

    /// Where the kernel drops packets at present.
    pub(super) fn troubles(&self) -> Vec<Found> {
        troubles(&self.list(), self.clock.now())
    }
}

fn troubles(lost: &[Grown<Place>], now: Moment) -> Vec<Found> {
    let present = lost.iter().filter(|grown| now.since(grown.at) < PRESENT_FOR);
    present.map(|Grown { label: (device, cause), count, .. }| trouble(device, *cause, *count)).collect()
}

fn trouble(device: &str, cause: LossCause, count: u64) -> Found {
    let (why, remedy) = match cause {
        LossCause::Transmit => {
            ("the queue of the device is full", "raise queues, if processors are idle".into())
        }
        LossCause::Receive => {
            ("the host's stack has no room", "raise it: sysctl net.core.netdev_max_backlog".to_owned())
        }
        LossCause::Qdisc => {
            ("its queueing discipline is full", format!("see: tc -s qdisc show dev {device}"))
        }
        LossCause::SocketBuffer => {
            ("the receive buffer is full", "raise it: sysctl net.core.rmem_max".to_owned())
        }
    };
    Found {
        kind: TroubleKind::PacketsLost,
        subject: format!("{device} {cause}"),
        text: format!("the kernel drops packets on {device}: {why}, {count} so far; {remedy}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::losses::Observed;

    #[test]
    fn a_loss_is_reported_while_it_happens() {
        let lost = Lost::new(Arc::default(), Clock::start());
        assert!(lost.list().is_empty() && lost.troubles().is_empty());
        let of = |cause, count| Observed { device: "lvsd0".to_owned(), cause, count, is_older: false };
        lost.losses.observe([of(LossCause::Transmit, 7), of(LossCause::Qdisc, 0)]);
        let found = lost.troubles();
        assert_eq!((found.len(), found[0].subject.as_str()), (1, "lvsd0 transmit"));
        assert!(
            found[0].text.starts_with(
                "the kernel drops packets on lvsd0: the queue of the device is full, 7 so far; "
            )
        );
        let list = lost.list();
        let later = list[0].at.after(PRESENT_FOR);
        assert!(troubles(&list, later).is_empty());
    }

    #[test]
    fn every_cause_has_a_remedy() {
        for cause in LossCause::ALL {
            assert!(trouble("eth0", *cause, 1).text.contains("; "), "{cause}");
        }
    }
}
