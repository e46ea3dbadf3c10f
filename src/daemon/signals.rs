//! The signals that end a daemon or make it reload, and how they interrupt work.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// How long unfinished work may continue after a signal has arrived.
const GRACE: Duration = Duration::from_millis(500);

/// Subscribes to the signals that end a daemon; the future returns the signal's name.
pub(super) fn end() -> Result<impl Future<Output = &'static str>, Failure> {
    let mut terminate = subscribe(SignalKind::terminate())?;
    let mut interrupt = subscribe(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// As [`end`], and SIGHUP too, for a daemon that has nothing to reload: otherwise closing the terminal
/// would end it like a kill, without clean-up.
pub(super) fn end_or_hangup() -> Result<impl Future<Output = &'static str>, Failure> {
    let end = end()?;
    let mut hangup = hangup()?;
    Ok(async move {
        tokio::select! {
            signal = end => signal,
            _ = hangup.recv() => "SIGHUP",
        }
    })
}

/// Subscribes to SIGHUP.
pub(super) fn hangup() -> Result<Signal, Failure> {
    subscribe(SignalKind::hangup())
}

fn subscribe(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::Failed(format!("cannot subscribe to signals: {error}")))
}

/// Does the work, even if a signal arrives meanwhile; but work that does not end soon after the signal, such
/// as a netlink request without an answer, does not keep the daemon from ending. `Err` names the signal.
pub(super) async fn unless_ended<T>(
    end: &mut (impl Future<Output = &'static str> + Unpin),
    work: impl Future<Output = T>,
) -> Result<T, &'static str> {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => Ok(done),
        signal = end => {
            if tokio::time::timeout(GRACE, work).await.is_err() {
                tracing::warn!(kind = "abandoned", "work in progress did not end within {} ms of {signal}; abandoned", GRACE.as_millis());
            }
            Err(signal)
        }
    }
}
