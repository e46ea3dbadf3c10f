//! Reads a text file that may be no file: a FIFO without a writer, a device without an end, a disk that does not
//! answer. Reading ends with a deadline and with a size.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Enough for 32,000 services with four real servers each, twice.
pub(super) const SIZE_MAX: u64 = 64 << 20;

/// For the whole file.
pub(super) const READ_MAX: Duration = Duration::from_secs(5);

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The error of the kernel.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// A block device.
    #[error("cannot read: it is a disk, not a file")]
    Disk,
    /// Longer than any configuration.
    #[error("cannot read: longer than {} MiB", SIZE_MAX >> 20)]
    TooLong,
    /// Its end did not arrive in time.
    #[error("cannot read: it did not end within {} s", READ_MAX.as_secs())]
    TooSlow,
    /// The number of a line with other bytes.
    #[error("not UTF-8 text")]
    NotText {
        /// Counted from 1.
        line: usize,
    },
}

/// Reads a file, or the other end of a FIFO or a terminal, for no longer than some seconds. The file is read by a
/// thread of its own, which is left behind if the file's disk does not answer.
///
/// # Errors
/// See [`ReadError`].
pub(crate) fn read_text(path: &Path) -> Result<String, ReadError> {
    String::from_utf8(read_within_time(path)?).map_err(|error| {
        let text = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        ReadError::NotText { line: text.iter().filter(|byte| **byte == b'\n').count() + 1 }
    })
}

/// As [`read_text`], but text in another encoding is read, too: what is not UTF-8 becomes U+FFFD.
///
/// # Errors
/// See [`ReadError`].
pub(crate) fn read_any_text(path: &Path) -> Result<String, ReadError> {
    Ok(String::from_utf8_lossy(&read_within_time(path)?).into_owned())
}

fn read_within_time(path: &Path) -> Result<Vec<u8>, ReadError> {
    let (answer, answered) = mpsc::channel();
    let (path, deadline) = (path.to_owned(), Instant::now() + READ_MAX);
    std::thread::Builder::new()
        .name("lvs-tund-read".to_owned())
        .spawn(move || answer.send(read_bytes(&path, deadline)))?;
    // The reader keeps to the same deadline, and reports it, unless a call into the kernel does not return.
    answered.recv_timeout(READ_MAX + Duration::from_secs(1)).map_err(|_| ReadError::TooSlow)?
}

fn read_bytes(path: &Path, deadline: Instant) -> Result<Vec<u8>, ReadError> {
    // Opening a FIFO would wait for a writer.
    let mut file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
    let found = file.metadata()?;
    let kind = found.file_type();
    if kind.is_block_device() {
        return Err(ReadError::Disk);
    }
    if found.len() > SIZE_MAX {
        return Err(ReadError::TooLong);
    }
    let (mut bytes, mut has_begun) = (Vec::new(), kind.is_file());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ReadError::TooSlow);
        }
        match file.by_ref().take(SIZE_MAX + 1 - bytes.len() as u64).read_to_end(&mut bytes) {
            _ if bytes.len() as u64 > SIZE_MAX => return Err(ReadError::TooLong),
            // fifo(7): without a writer, reading returns 0 at once; the writer may still come.
            Ok(0) if !has_begun && kind.is_fifo() => std::thread::sleep(Duration::from_millis(10)),
            Ok(_) => return Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(&file, left)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        has_begun |= !bytes.is_empty();
    }
}

fn wait(file: &impl AsFd, left: Duration) -> io::Result<()> {
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn refusal(path: &str) -> String {
        read_text(Path::new(path)).unwrap_err().to_string()
    }

    #[test]
    fn something_that_is_not_a_file_is_refused_with_its_kind_or_its_size() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(refusal(directory.path().to_str().unwrap()), "cannot read: Is a directory (os error 21)");
        assert_eq!(refusal("/dev/zero"), "cannot read: longer than 64 MiB");
        let long = directory.path().join("long");
        std::fs::File::create(&long).unwrap().set_len(SIZE_MAX + 1).unwrap();
        assert_eq!(refusal(long.to_str().unwrap()), "cannot read: longer than 64 MiB");
        assert!(refusal("/no/such/file").starts_with("cannot read: No such file"));
        std::fs::write(&long, b"one\ntw\xff").unwrap();
        assert!(matches!(read_text(&long), Err(ReadError::NotText { line: 2 })));
        assert_eq!(read_any_text(&long).unwrap(), "one\ntw\u{fffd}");
        std::fs::write(&long, "").unwrap();
        assert_eq!(read_text(&long).unwrap(), "");
    }

    #[test]
    fn a_fifo_is_read_to_its_end_and_given_up_after_the_deadline() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let writer = path.clone();
        let writer = std::thread::spawn(move || {
            let mut fifo = OpenOptions::new().write(true).open(writer).unwrap();
            for part in ["a = 1\n", "b = 2\n"] {
                fifo.write_all(part.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(30));
            }
        });
        assert_eq!(read_text(&path).unwrap(), "a = 1\nb = 2\n");
        writer.join().unwrap();
        let soon = || Instant::now() + Duration::from_millis(50);
        assert!(matches!(read_bytes(&path, soon()), Err(ReadError::TooSlow)), "no writer");
        let held = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert!(matches!(read_bytes(&path, soon()), Err(ReadError::TooSlow)), "the writer is silent");
        drop(held);
    }
}
