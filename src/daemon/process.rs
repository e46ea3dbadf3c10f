//! The process of a daemon: a runtime for everything except packets, signals, and the link to the lab.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use crate::failure::Failure;

/// Set by the lab for its child processes: they end when the lab ends, in whatever way.
const EXIT_WITH_PARENT: &str = "LVS_TUND_EXIT_WITH_PARENT";

/// Threads of tokio: control traffic only.
const CONTROL_THREADS: usize = 2;

/// A runtime for a daemon.
pub fn runtime() -> Result<Runtime, Failure> {
    if std::env::var_os(EXIT_WITH_PARENT).is_some() {
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| {
            Failure::Failed(format!("cannot arrange to end with the parent process: {error}"))
        })?;
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("lvs-tund-control")
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start threads: {error}")))
}

/// Subscribes to the signals that end a daemon; the future returns the signal's name.
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

/// As [`end_signal`], and SIGHUP too, for a daemon that has nothing to reload: otherwise closing the terminal
/// would end it like a kill, without clean-up.
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
    signal(kind).map_err(|error| Failure::Failed(format!("cannot subscribe to signals: {error}")))
}

/// How long unfinished work may continue after a signal has arrived.
const GRACE: Duration = Duration::from_millis(500);

/// Does the work, even if a signal arrives meanwhile; but work that does not end soon after the signal, such
/// as a netlink request without an answer, does not keep the daemon from ending. `Err` names the signal.
pub async fn unless_ended<T>(
    end: &mut (impl Future<Output = &'static str> + Unpin),
    work: impl Future<Output = T>,
) -> Result<T, &'static str> {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => Ok(done),
        signal = end => {
            if tokio::time::timeout(GRACE, work).await.is_err() {
                tracing::warn!("work in progress did not end within {} ms of {signal}; abandoned", GRACE.as_millis());
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

/// The addresses of all interfaces of this host, loopback included.
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

/// From the kernel's entropy, through the standard library's hash keys.
pub fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
