//! Takes log lines from any thread and writes them from a thread of its own, so that a thread that logs never waits for
//! the reader of standard error and never fails with it.
//!
//! ```text
//! any thread ─▶ queue of at most QUEUE_BYTES ─▶ one thread ─▶ standard error
//!                └ full: the line is lost         └ error: the line is lost
//! ```
//!
//! Lost lines are counted, and the next line that can be written is followed by one that reports how many.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::escape::escaped;
use crate::daemon::privileges;

/// Lines waiting for a reader that has stalled: some thousand.
const QUEUE_BYTES: usize = 1 << 20;

/// The pause after standard error has reported that it cannot take more, which only happens if another program
/// made it non-blocking.
const RETRY: Duration = Duration::from_millis(20);

/// The lines that wait, and the counts.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Notified when a line arrives, and when the last one has been handled.
    changed: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The thread has taken a line and not finished with it.
    is_writing: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next line.
    fn take(&self) -> Vec<u8> {
        let mut waiting = self.lock();
        waiting.is_writing = false;
        self.changed.notify_all();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.len();
                waiting.is_writing = true;
                return line;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The end that takes lines; a clone is the same queue.
#[derive(Clone, Default)]
pub(super) struct LineWriter {
    queue: Arc<Queue>,
    /// Escape characters are left alone because colours need them.
    has_colours: bool,
}

impl LineWriter {
    /// Starts the thread that writes to `output`. `report` is called with the number of all lost lines and the last
    /// error, after a line has been written again; it may log. Without a thread every line is lost.
    pub(super) fn start(
        output: impl Write + Send + 'static,
        has_colours: bool,
        report: impl Fn(u64, &str) + Send + 'static,
    ) -> LineWriter {
        let writer = LineWriter { queue: Arc::default(), has_colours };
        let queue = writer.queue.clone();
        // The thread is never joined: a stalled reader would keep the daemon from ending.
        let started = std::thread::Builder::new().name("lvs-tund-log".to_owned()).spawn(move || {
            privileges::reduce();
            write_all_lines(&queue, output, report);
        });
        drop(started);
        writer
    }

    /// Lines lost since the start.
    pub(super) fn lost(&self) -> u64 {
        self.queue.lost.load(Ordering::Relaxed)
    }

    /// Waits until all lines are written, for no longer than `patience`.
    pub(super) fn flush_within(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut waiting = self.queue.lock();
        while waiting.is_writing || !waiting.lines.is_empty() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return };
            let wait = self.queue.changed.wait_timeout(waiting, left);
            waiting = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Takes a whole line with each call, as `tracing_subscriber` makes them, and never fails: its caller would report the
/// failure to the same standard error, and panic.
impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let length = line.len();
        let line = escaped(line, self.has_colours);
        let mut waiting = self.queue.lock();
        if waiting.bytes + line.len() > QUEUE_BYTES {
            self.queue.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            waiting.bytes += line.len();
            waiting.lines.push_back(line);
            self.queue.changed.notify_all();
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one line after the other, for as long as the process lasts.
fn write_all_lines(queue: &Queue, mut output: impl Write, report: impl Fn(u64, &str)) {
    let (mut reported, mut cause) = (0, String::new());
    let mut is_cut = false;
    loop {
        let line = queue.take();
        let start: &[u8] = if is_cut { b"\n" } else { b"" };
        let (written, outcome) = write_line(&mut output, &[start, &line].concat());
        // What follows a line that was written in part begins on a line of its own.
        is_cut = if written == 0 { is_cut } else { outcome.is_err() };
        match outcome {
            Err(error) => {
                queue.lost.fetch_add(1, Ordering::Relaxed);
                cause = error.to_string();
            }
            Ok(()) => {
                let lost = queue.lost.load(Ordering::Relaxed);
                if lost > reported {
                    let cause = std::mem::take(&mut cause);
                    report(lost, if cause.is_empty() { "the reader was too slow" } else { &cause });
                    reported = lost;
                }
            }
        }
    }
}

/// How many bytes were written, and the error that ended it.
fn write_line(output: &mut impl Write, line: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < line.len() {
        match output.write(&line[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(RETRY),
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// An output with a script.
    #[derive(Clone, Default)]
    struct Output {
        written: Arc<Mutex<Vec<u8>>>,
        /// Errors to report, one per call; `None` accepts at most three bytes.
        script: Arc<Mutex<VecDeque<Option<io::ErrorKind>>>>,
        stalled: Arc<Mutex<()>>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.stalled.lock().unwrap();
            let taken = match self.script.lock().unwrap().pop_front() {
                Some(Some(kind)) => return Err(kind.into()),
                Some(None) => bytes.len().min(3),
                None => bytes.len(),
            };
            self.written.lock().unwrap().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Reports = Arc<Mutex<Vec<(u64, String)>>>;

    fn started(script: &[Option<io::ErrorKind>]) -> (LineWriter, Output, Reports) {
        let output =
            Output { script: Mutex::new(script.iter().copied().collect()).into(), ..Output::default() };
        let reports = Reports::default();
        let said = reports.clone();
        let report = move |lost, cause: &str| said.lock().unwrap().push((lost, cause.to_owned()));
        (LineWriter::start(output.clone(), false, report), output, reports)
    }

    fn text(output: &Output) -> String {
        String::from_utf8(output.written.lock().unwrap().clone()).unwrap()
    }

    fn write(writer: &mut LineWriter, lines: &[&str]) {
        lines.iter().for_each(|line| writer.write_all(line.as_bytes()).unwrap());
        writer.flush_within(PATIENCE);
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_reported_later() {
        use io::ErrorKind::{BrokenPipe, StorageFull};
        let (mut writer, output, reports) = started(&[Some(BrokenPipe), Some(StorageFull)]);
        write(&mut writer, &["one\n", "two\n"]);
        assert_eq!((writer.lost(), text(&output).as_str()), (2, ""));
        assert!(reports.lock().unwrap().is_empty());
        write(&mut writer, &["three\n", "four\n"]);
        // The report comes after the line that was written.
        writer.flush_within(PATIENCE);
        assert_eq!((writer.lost(), text(&output).as_str()), (2, "three\nfour\n"));
        let reports = reports.lock().unwrap().clone();
        assert_eq!(reports.len(), 1);
        assert_eq!((reports[0].0, reports[0].1.as_str()), (2, "no storage space"));
    }

    #[test]
    fn the_line_after_one_written_in_part_begins_on_its_own() {
        let (mut writer, output, _) = started(&[None, Some(io::ErrorKind::StorageFull)]);
        write(&mut writer, &["onetwo\n", "three\n", "four\n"]);
        assert_eq!(text(&output), "one\nthree\nfour\n");
        let (mut writer, output, _) = started(&[None, Some(io::ErrorKind::Interrupted)]);
        write(&mut writer, &["onetwo\n"]);
        assert_eq!((text(&output).as_str(), writer.lost()), ("onetwo\n", 0), "a signal loses nothing");
        let (mut writer, output, _) = started(&[Some(io::ErrorKind::WouldBlock), None]);
        write(&mut writer, &["onetwo\n"]);
        assert_eq!((text(&output).as_str(), writer.lost()), ("onetwo\n", 0), "a busy pipe loses nothing");
    }

    #[test]
    fn a_stalled_reader_blocks_no_thread_and_costs_bounded_memory() {
        let (mut writer, output, reports) = started(&[]);
        let stalled = output.stalled.lock().unwrap();
        let line = format!("{}\n", "x".repeat(1023));
        let begun = Instant::now();
        (0..1500).for_each(|_| writer.write_all(line.as_bytes()).unwrap());
        writer.flush_within(Duration::from_millis(20));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let lost = writer.lost();
        assert!((475..=476).contains(&lost), "{lost} of 1,500 are more than the queue holds");
        drop(stalled);
        writer.flush_within(PATIENCE);
        assert_eq!(text(&output).len() as u64, (1500 - lost) * 1024);
        assert_eq!(*reports.lock().unwrap(), [(lost, "the reader was too slow".to_owned())]);
    }
}
