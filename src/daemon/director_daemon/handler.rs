//! A director's worker: handles client packets, and counts what became of them.

use std::io;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use nix::errno::Errno;
use tokio::sync::Notify;

use crate::daemon::worker::{ExtraFrame, Fate, Handler};
use crate::datapath::Exit;
use crate::director::cluster::Cluster;
use crate::director::route::Way;
use crate::director::server_errors::Cause;
use crate::director::verdict::{DropReason, Verdict};
use crate::director::{Director, Extra};
use crate::metrics::counters::DirectorCounters;
use crate::packet::Frame;
use crate::time::Moment;

pub(super) struct DirectorHandler {
    pub latest: Arc<ArcSwap<Cluster>>,
    /// The snapshot of the batch; a worker that waits holds none.
    pub cluster: Option<Guard<Arc<Cluster>>>,
    pub director: Director,
    pub counters: Arc<DirectorCounters>,
    /// Notified when a packet did not fit its path.
    pub narrowed: Arc<Notify>,
    /// Of the packet handled last.
    pub now: Moment,
}

impl Handler for DirectorHandler {
    type Verdict = Verdict;

    const SEND_ERROR: Verdict = Verdict::Drop(DropReason::SendError);

    fn begin_batch(&mut self) {
        self.cluster = Some(self.latest.load());
    }

    fn handle(&mut self, frame: &mut Frame, now: Moment) -> (Verdict, Option<Exit>) {
        self.now = now;
        let cluster = self.cluster.get_or_insert_with(|| self.latest.load());
        let verdict = self.director.handle_packet(cluster, frame, now);
        (verdict, exit(&verdict))
    }

    fn count(&mut self, fate: &Fate<Verdict>) {
        self.counters.count(&fate.verdict, fate.captured);
    }

    fn on_failure(&mut self, verdict: Option<&Verdict>, error: &io::Error) {
        // Netlink does not announce a path MTU that the kernel has learned.
        if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) {
            self.narrowed.notify_one();
        }
        let Some(Verdict::Transmit(route)) = verdict else { return self.counters.errors.add(error) };
        let cause = Cause::of_errno(error.raw_os_error().unwrap_or(0));
        let cluster = self.latest.load();
        cluster.with_live(route.real_server, |live| live.errors().count_transmit(cause, self.now));
    }

    fn poll_extra(&mut self, now: Moment) -> Option<ExtraFrame<Verdict>> {
        self.now = now;
        loop {
            let cluster = self.cluster.get_or_insert_with(|| self.latest.load());
            let Some(extra) = self.director.poll_extra(cluster, now) else {
                self.cluster = None;
                return None;
            };
            match extra {
                Extra::Piece { frame, to } => {
                    return Some(ExtraFrame { frame, exit: Exit::Network(to), late: None });
                }
                Extra::ErrorToSender { frame, to } => {
                    self.counters.told.add(1);
                    return Some(ExtraFrame { frame, exit: Exit::Network(to), late: None });
                }
                Extra::Late { frame, bytes, verdict, .. } => {
                    let fate = Fate { verdict, captured: bytes, handled: frame.len() };
                    match exit(&verdict) {
                        Some(exit) => return Some(ExtraFrame { frame, exit, late: Some(fate) }),
                        None => self.count_late(&fate),
                    }
                }
            }
        }
    }

    fn count_late(&mut self, fate: &Fate<Verdict>) {
        self.counters.count_late(&fate.verdict, fate.captured);
    }

    fn is_waiting(&self) -> bool {
        self.director.is_waiting()
    }
}

fn exit(verdict: &Verdict) -> Option<Exit> {
    match verdict {
        Verdict::Transmit(route) => Some(match route.way {
            Way::Wrapped(_) => Exit::Network(route.to()),
            Way::Local => Exit::Host,
        }),
        Verdict::Reply(reply) => Some(Exit::Network(reply.to)),
        Verdict::Pass => Some(Exit::Host),
        Verdict::Hold | Verdict::Drop(_) => None,
    }
}
