//! The files of journals: found, locked, adopted, appended to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::text::{self, Content, Line};
use super::{JournalPlace, Record};

/// The end of a journal's name.
const EXTENSION: &str = "changes";

/// Of a journal of many thousand VIPs; a larger file is not one.
const BYTES_MAX: u64 = 64 << 20;

/// Lines of undone changes that a file may contain before it is written again.
const STALE_MAX: usize = 4096;

pub(super) const CONSEQUENCE: &str =
    "if this daemon is killed, the next start cannot undo all of its changes";

/// A journal that this process has locked.
#[derive(Debug)]
pub(super) struct JournalFile {
    /// Its lock ends with it.
    file: File,
    path: PathBuf,
    namespace: String,
    lines: usize,
}

impl JournalFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn append(&mut self, line: &Line) -> io::Result<()> {
        self.lines += 1;
        self.file.write_all(text::line(line).as_bytes())
    }

    /// Whether most of its lines are about changes that were undone.
    pub(super) fn is_long(&self, records: usize) -> bool {
        self.lines > 2 * records + STALE_MAX
    }

    /// The same journal with these records only.
    pub(super) fn shortened(self, records: &[Record]) -> Option<JournalFile> {
        let JournalFile { path, namespace, .. } = self;
        write(&path, &namespace, records).map_err(|error| complain(&path, &error)).ok()
    }

    pub(super) fn remove(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("host: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Reads and removes the journals of killed daemons, and begins a file that contains what they contained.
pub(super) fn begin(place: &JournalPlace) -> (Option<JournalFile>, Vec<Record>) {
    if let Err(error) = fs::create_dir_all(&place.directory) {
        complain(&place.directory, &error);
        return (None, Vec::new());
    }
    let own = place.directory.join(format!("{}.{EXTENSION}", place.name));
    let mut left = Vec::new();
    for path in journals(&place.directory) {
        match take(&path, &place.namespace) {
            Ok(Some(taken)) => left.push((path, taken)),
            Ok(None) if path == own => {
                tracing::warn!("host: {} is in use by another daemon; {CONSEQUENCE}", own.display());
                return (None, Vec::new());
            }
            Ok(None) => {}
            Err(error) => tracing::warn!("host: ignoring the journal {}: {error}", path.display()),
        }
    }
    let records: Vec<Record> = left.iter().flat_map(|(_, taken)| taken.records.iter().cloned()).collect();
    let begun = write(&own, &place.namespace, &records).map_err(|error| complain(&own, &error)).ok();
    if begun.is_some() {
        // Their locks last until here, so that no other daemon takes them too.
        for (path, _) in left.iter().filter(|(path, _)| *path != own) {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!("host: cannot remove {}: {error}", path.display());
            }
        }
    }
    (begun, records)
}

fn complain(path: &Path, error: &io::Error) {
    tracing::warn!("host: no journal of changes in {}: {error}; {CONSEQUENCE}", path.display());
}

/// In alphabetical order.
fn journals(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION)).collect();
    found.sort();
    found
}

/// A killed daemon's journal, locked.
struct Taken {
    _lock: File,
    records: Vec<Record>,
}

/// `None` if a daemon is running with it, or if it is of another network namespace.
fn take(path: &Path, namespace: &str) -> io::Result<Option<Taken>> {
    let mut file =
        OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?;
    let found = file.metadata()?;
    let is_trusted =
        found.is_file() && found.uid() == nix::unistd::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if !is_trusted || found.len() > BYTES_MAX {
        return Err(io::Error::other("not a file that only its owner, this user, may write"));
    }
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(error)) => return Err(error),
        Ok(()) => {}
    }
    // Another daemon may have replaced or removed it before the lock was taken.
    if !fs::symlink_metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (found.dev(), found.ino())) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    match text::read(&String::from_utf8_lossy(&bytes), namespace) {
        Content::Elsewhere => Ok(None),
        Content::Outdated => {
            fs::remove_file(path)?;
            Ok(None)
        }
        Content::Foreign => Err(io::Error::other("its first line is not that of a journal")),
        Content::Records(records, unreadable) => {
            if unreadable > 0 {
                tracing::warn!("host: {unreadable} lines of {} cannot be read", path.display());
            }
            Ok(Some(Taken { _lock: file, records }))
        }
    }
}

/// Writes a whole journal and locks it, in place of the one that may be there.
fn write(path: &Path, namespace: &str, records: &[Record]) -> io::Result<JournalFile> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let flags = OFlag::O_NOFOLLOW.bits();
    let _ = fs::remove_file(&new);
    let mut file =
        OpenOptions::new().append(true).create_new(true).mode(0o600).custom_flags(flags).open(&new)?;
    let written = file.write_all(text::whole(namespace, records).as_bytes());
    // Locked under its temporary name: under its final name it is never without a lock.
    let placed =
        written.and_then(|()| file.try_lock().map_err(io::Error::from)).and_then(|()| fs::rename(&new, path));
    if let Err(error) = placed {
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    Ok(JournalFile { file, path: path.to_owned(), namespace: namespace.to_owned(), lines: records.len() })
}
