//! A director without a host: a cluster that changes, time that passes, packets in, verdicts out.

use std::sync::Arc;

use arc_swap::ArcSwap;
use lvs_tund::director::cluster::grace::{GRACE, Grace};
use lvs_tund::director::cluster::{Cluster, ClusterConfig, EffectiveConfig, HostView};
use lvs_tund::director::path_errors::{Handled, PathErrors, report_about};
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::Verdict;
use lvs_tund::director::{Director, Extra};
use lvs_tund::packet::Frame;
use lvs_tund::time::Moment;

pub struct World {
    pub cluster: Arc<ArcSwap<Cluster>>,
    pub tables: Arc<Tables>,
    pub director: Director,
    /// Reads the errors from the paths to the real servers.
    pub errors: PathErrors,
    pub now: Moment,
    grace: Grace,
}

impl World {
    pub fn new(config: ClusterConfig, host: HostView, tables: Tables) -> World {
        let cluster = Arc::new(ArcSwap::from_pointee(Cluster::new(config, host)));
        let tables = Arc::new(tables);
        let director = Director::new(tables.clone(), 7);
        let errors = PathErrors::new(cluster.clone(), tables.clone(), 7);
        World { cluster, tables, director, errors, now: Moment::from_secs(1), grace: Grace::default() }
    }

    /// The verdict, and what the frame holds afterwards.
    pub fn process(&mut self, packet: &[u8]) -> (Verdict, Vec<u8>) {
        let mut frame = Frame::from_packet(packet);
        let verdict = self.process_frame(&mut frame);
        (verdict, frame.packet().to_vec())
    }

    pub fn process_frame(&mut self, frame: &mut Frame) -> Verdict {
        self.director.handle_packet(&self.cluster.load(), frame, self.now)
    }

    /// Frames that are due in addition to the one that was handled.
    pub fn due(&mut self) -> Vec<Extra> {
        let cluster = self.cluster.load();
        std::iter::from_fn(|| self.director.poll_extra(&cluster, self.now)).collect()
    }

    /// An ICMP message about an outer packet. If it causes a probe, the router that sent it reports the same about
    /// the probe.
    pub fn hear(&mut self, message: &[u8]) -> Handled {
        let handled = self.errors.handle_packet(message, self.now);
        match &handled.probe {
            Some((probe, _)) => {
                let report = report_about(probe, message).expect("a whole report");
                self.errors.handle_packet(&report, self.now)
            }
            None => handled,
        }
    }

    /// Applies another configuration, or another host.
    pub fn succeed(&mut self, config: impl Into<EffectiveConfig>, host: HostView) {
        let next = self.cluster.load().succeed(config, host);
        self.grace.follow(&next, self.now);
        self.cluster.store(Arc::new(next));
    }

    /// Ends the wait for what is awaited no longer than until this moment, as the control task does.
    pub fn end_grace(&mut self, now: Moment) {
        if let Some(over) = self.grace.over(now) {
            let next = self.cluster.load().end_grace(&over);
            self.grace.follow(&next, now);
            self.cluster.store(Arc::new(next));
        }
    }

    /// As after the grace, at the same moment.
    pub fn end_every_grace(&mut self) {
        self.end_grace(self.now.after(GRACE));
    }

    /// Removes what has ended.
    pub fn sweep(&self) {
        self.tables.sweep(&self.cluster.load(), self.now);
    }
}
