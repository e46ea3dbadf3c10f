//! The task that runs a director's checks.

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::start::DataPlane;
use crate::daemon::clock::Clock;
use crate::daemon::control::Checks;
use crate::daemon::health::{AllSockets, Ask, Capacity, Driver, Ends, Hooks, News, Starter, Tools};
use crate::daemon::{no_raw_socket, random};
use crate::failure::Failure;
use crate::health::half_open::HalfOpenWatch;
use crate::probing::ProbeNet;

/// The running task.
pub(super) struct Checking {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Checking {
    /// Starts it; it has no checks until the control task passes it a configuration. Returns also what the control task
    /// needs of it: its own end, and what the checks report.
    pub(super) fn start(
        plane: &DataPlane,
        clock: Clock,
        programs: Starter,
        (asks, asked): (mpsc::Sender<Ask>, mpsc::Receiver<Ask>),
    ) -> Result<(Checking, Checks, mpsc::Receiver<News>), Failure> {
        let (cluster, pins) = (plane.cluster.clone(), plane.tables.pins.clone());
        let net = ProbeNet::new(cluster, pins, move || clock.now()).map_err(|error| no_raw_socket(&error))?;
        let tools = Tools::new(AllSockets::new(net), programs.clone());
        let (driver, Ends { wanted, news }) =
            Driver::new(tools, move || clock.now(), random::draw(), Capacity::of_process(), asked);
        let half_open = HalfOpenWatch::default();
        let checks = Checks { wanted, asks, hooks: Hooks::new(programs), half_open, prepared: None };
        let (end, ended) = oneshot::channel();
        Ok((Checking { end, task: tokio::spawn(driver.run(ended)) }, checks, news))
    }

    /// The resets of its probes need the device and the workers: without them, connections would stay at the real servers.
    pub(super) async fn stop(self) {
        drop(self.end);
        if self.task.await.is_err() {
            tracing::error!(kind = "check_failed", "director: the checks have ended too early");
        }
    }
}
