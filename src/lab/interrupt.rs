//! Ctrl-C and SIGTERM as a value that can be polled and waited for.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use super::{Attempt, LabError};

/// Raised once by SIGINT, SIGTERM or SIGHUP; after `listen` these signals no longer end the process.
///
/// The signals are handled, not blocked: a child would inherit a blocked mask across exec and never receive
/// them.
#[derive(Debug, Clone)]
pub struct Interrupt {
    raised: Arc<(Mutex<bool>, Condvar)>,
}

impl Interrupt {
    /// # Errors
    /// The handlers cannot be installed.
    pub fn listen() -> Result<Self, LabError> {
        let what = || "cannot listen for signals".to_owned();
        let interrupt = Interrupt { raised: Arc::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().attempt(what)?;
        let guard = runtime.enter();
        let mut interrupted = signal(SignalKind::interrupt()).attempt(what)?;
        let mut terminated = signal(SignalKind::terminate()).attempt(what)?;
        let mut hung_up = signal(SignalKind::hangup()).attempt(what)?;
        drop(guard);
        let raised = interrupt.clone();
        thread::Builder::new()
            .name("lab-interrupt".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = interrupted.recv() => (),
                        _ = terminated.recv() => (),
                        _ = hung_up.recv() => (),
                    }
                });
                raised.raise();
            })
            .attempt(what)?;
        Ok(interrupt)
    }

    /// Whether a signal has arrived.
    pub fn is_raised(&self) -> bool {
        *self.raised.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until it is raised.
    pub fn wait(&self) {
        let raised = self.raised.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.raised.1.wait_while(raised, |raised| !*raised));
    }

    fn raise(&self) {
        *self.raised.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.raised.1.notify_all();
    }
}
