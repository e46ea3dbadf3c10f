//! Reads what the kernel drops before and behind the daemon, with every tick of the host.

use std::sync::Arc;

use crate::datapath::raw_socket::LossMeter;
use crate::host::Netlink;
use crate::metrics::losses::{LossCause, Losses, Observed};

/// The label of the daemon's sockets, which belong to no device.
const SOCKET: &str = "raw_socket";

/// What a daemon looks at.
pub(super) struct LossWatch {
    /// The TUN device, which the daemon made.
    tun: String,
    /// Where packets leave; its counters are older than the daemon.
    interface: Option<String>,
    meters: Vec<LossMeter>,
    netlink: Option<Netlink>,
    losses: Arc<Losses>,
}

impl LossWatch {
    pub(super) fn new(tun: &str, interface: Option<&str>, meters: Vec<LossMeter>) -> LossWatch {
        LossWatch {
            tun: tun.to_owned(),
            interface: interface.map(str::to_owned),
            meters,
            netlink: None,
            losses: Arc::default(),
        }
    }

    /// The totals, kept up to date by [`LossWatch::look`].
    pub(super) fn losses(&self) -> Arc<Losses> {
        self.losses.clone()
    }

    /// A device that is missing, or an answer that fails, is omitted until the next look.
    pub(super) async fn look(&mut self) {
        let mut found = Vec::new();
        if self.netlink.is_none() {
            self.netlink = Netlink::open().ok();
        }
        if let Some(netlink) = &self.netlink {
            let mut see = |device: &str, cause, count, is_older| {
                found.push(Observed { device: device.to_owned(), cause, count, is_older });
            };
            if let Ok(lost) = netlink.losses(&self.tun).await {
                see(&self.tun, LossCause::Transmit, lost.transmit, false);
                see(&self.tun, LossCause::Receive, lost.receive, false);
                see(&self.tun, LossCause::Qdisc, lost.qdisc, false);
            }
            if let Some(interface) = &self.interface
                && let Ok(lost) = netlink.losses(interface).await
            {
                see(interface, LossCause::Transmit, lost.transmit, true);
                see(interface, LossCause::Qdisc, lost.qdisc, true);
            }
        }
        if !self.meters.is_empty() {
            let count = self.meters.iter().map(LossMeter::read).sum();
            found.push(Observed {
                device: SOCKET.to_owned(),
                cause: LossCause::SocketBuffer,
                count,
                is_older: false,
            });
        }
        self.losses.observe(found);
    }
}
