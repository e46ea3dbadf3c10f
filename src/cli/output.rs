//! Standard output and standard error of the commands. A reader that has enough, as `head` has, ends a command quietly;
//! any other failure is the command's own.

use std::io::{ErrorKind, Write, stderr, stdout};
use std::ops::ControlFlow;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use super::Failure;

/// Whether anything still reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stdout {
    Open,
    /// No, as behind `| head`: not a failure, but no reason to continue.
    Closed,
}

/// Writes to standard output.
pub(super) fn print(text: &str) -> Result<Stdout, Failure> {
    let mut output = stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => Ok(Stdout::Open),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Stdout::Closed),
        Err(error) => Err(Failure::Failed(format!("cannot write to standard output: {error}"))),
    }
}

/// The first failure of [`print_on`].
static FAILURE: OnceLock<String> = OnceLock::new();

/// Writes to standard output and continues in any case, for a command that has more to do than to print; it fails at its
/// end, with [`printed_all`].
pub(super) fn print_on(text: &str) {
    if let Err(failure) = print(text) {
        FAILURE.get_or_init(|| failure.to_string());
    }
}

/// # Errors
/// [`print_on`] has failed.
pub(super) fn printed_all() -> Result<(), Failure> {
    FAILURE.get().map_or(Ok(()), |failure| Err(Failure::Failed(failure.clone())))
}

/// Writes a line to standard error. There is nowhere to report that it is closed; `eprintln!` would panic.
pub(super) fn note(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// As [`note`], but a reader that has stalled does not keep the process from ending.
pub(super) fn note_within(line: String, patience: Duration) {
    let (written, done) = mpsc::channel();
    std::thread::spawn(move || {
        note(&line);
        let _ = written.send(());
    });
    let _ = done.recv_timeout(patience);
}

/// Any number of rows, printed in chunks of some thousand.
#[derive(Default)]
pub(super) struct Pages {
    text: String,
    outcome: Option<Failure>,
}

impl Pages {
    /// As much as a pipe accepts at once (pipe(7)).
    const SIZE: usize = 64 << 10;

    /// Breaks when nothing reads the output any more.
    pub(super) fn push(&mut self, row: &str) -> ControlFlow<()> {
        self.text.push_str(row);
        if self.text.len() < Pages::SIZE { ControlFlow::Continue(()) } else { self.flush() }
    }

    fn flush(&mut self) -> ControlFlow<()> {
        match print(&std::mem::take(&mut self.text)) {
            Ok(Stdout::Open) => return ControlFlow::Continue(()),
            Ok(Stdout::Closed) => {}
            Err(failure) => self.outcome = Some(failure),
        }
        ControlFlow::Break(())
    }

    /// Prints the rest.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        if self.outcome.is_none() {
            _ = self.flush();
        }
        self.outcome.map_or(Ok(()), Err)
    }
}
