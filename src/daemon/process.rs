//! What a daemon's process needs: a runtime for everything that is no packet, signals, the lab's leash.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use crate::failure::Failure;

/// Set by the lab for its children: they end with it, however it ends.
const EXIT_WITH_PARENT: &str = "LVS_TUND_EXIT_WITH_PARENT";

/// Threads of tokio: control traffic only.
const CONTROL_THREADS: usize = 2;

/// A runtime for a daemon.
pub fn runtime() -> Result<Runtime, Failure> {
    if std::env::var_os(EXIT_WITH_PARENT).is_some() {
        prctl::set_pdeathsig(Signal::SIGKILL)
            .map_err(|error| Failure::Failed(format!("cannot follow the parent's end: {error}")))?;
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("lvs-tund-control")
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start threads: {error}")))
}

/// Subscribes to the signals that end a daemon; the future says which one came.
pub fn end_signal() -> Result<impl Future<Output = &'static str>, Failure> {
    let mut terminate = subscribe(SignalKind::terminate())?;
    let mut interrupt = subscribe(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// As [`end_signal`], for a daemon that has nothing to reload: a terminal that is closed would otherwise end it
/// like a kill, with nothing undone.
pub fn end_signal_or_hangup() -> Result<impl Future<Output = &'static str>, Failure> {
    let end = end_signal()?;
    let mut hangup = hangup_signal()?;
    Ok(async move {
        tokio::select! {
            signal = end => signal,
            _ = hangup.recv() => "SIGHUP",
        }
    })
}

/// Subscribes to SIGHUP.
pub fn hangup_signal() -> Result<Signals, Failure> {
    subscribe(SignalKind::hangup())
}

fn subscribe(kind: SignalKind) -> Result<Signals, Failure> {
    signal(kind).map_err(|error| Failure::Failed(format!("cannot await signals: {error}")))
}

/// How long work that should not be cut off may go on after a signal has come.
const GRACE: Duration = Duration::from_millis(500);

/// Does the work, also if a signal comes meanwhile; but work that does not end in time after one, such as an
/// answer of netlink that never comes, does not keep the daemon from ending. `Err` says which signal came.
pub async fn unless_ended<T>(
    end: &mut (impl Future<Output = &'static str> + Unpin),
    work: impl Future<Output = T>,
) -> Result<T, &'static str> {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => Ok(done),
        signal = end => {
            if tokio::time::timeout(GRACE, work).await.is_err() {
                tracing::warn!("something did not end within {} ms of {signal}", GRACE.as_millis());
            }
            Err(signal)
        }
    }
}

/// Publishes the standard `process_*` metrics to the recorder in scope.
pub fn publish() {
    let collector = metrics_process::Collector::default();
    collector.describe();
    collector.collect();
}

/// This host's addresses, of all interfaces, loopback included.
pub fn own_addresses() -> Vec<IpAddr> {
    let Ok(addresses) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    addresses
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}

/// From the kernel's entropy, by way of the standard library's hash keys.
pub fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
