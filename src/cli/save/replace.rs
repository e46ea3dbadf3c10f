//! Where `save` writes to, and how it replaces a file.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// Longer than any chain of symbolic links that the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `-`, and the names of standard output.
    Stdout,
    /// A device, a FIFO, an open file: something to write to and not to replace.
    Stream(PathBuf),
    /// A regular file, or none yet: the end of all symbolic links.
    File(PathBuf),
}

impl Target {
    pub(super) fn of(path: &Path) -> Target {
        if path == Path::new("-") {
            return Target::Stdout;
        }
        let mut path = path.to_owned();
        for _ in 0..LINKS_MAX {
            if ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name)) {
                return Target::Stdout;
            }
            // Its links name what this process has open, which may have no name at all.
            if path.starts_with("/proc") || path.starts_with("/dev/fd") {
                return Target::Stream(path);
            }
            let Ok(next) = std::fs::read_link(&path) else { break };
            path = path.parent().map_or(next.clone(), |directory| directory.join(&next));
        }
        match path.metadata() {
            Ok(found) if !found.is_file() && !found.is_dir() => Target::Stream(path),
            _ => Target::File(path),
        }
    }
}

/// Writes a temporary file in the same directory and renames it: the file is never half written. It keeps its owner and
/// its mode; only its owner can read a new file, because it may contain the hash key.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let before = match path.metadata() {
        Ok(found) if found.is_dir() => return Err(ErrorKind::IsADirectory.into()),
        found => found.ok(),
    };
    // The parent of a bare name is the empty path.
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let (file, temporary) = create_in(directory)?;
    let written = fill(file, text, before.as_ref()).and_then(|()| std::fs::rename(&temporary, path));
    match &written {
        // Puts the name on the disk too; without it a power failure brings back the previous file.
        Ok(()) => drop(File::open(directory).and_then(|directory| directory.sync_all())),
        // A temporary file that cannot be removed does no harm.
        Err(_) => drop(std::fs::remove_file(&temporary)),
    }
    written
}

fn create_in(directory: &Path) -> io::Result<(File, PathBuf)> {
    for attempt in 0.. {
        let path = directory.join(format!(".lvs-tund.{}.{attempt}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            // Left by a process that was killed and had the same number.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < LINKS_MAX => {}
            outcome => return outcome.map(|file| (file, path)),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

fn fill(mut file: File, text: &str, before: Option<&Metadata>) -> io::Result<()> {
    if let Some(before) = before {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
            fchown(&file, Some(before.uid()), Some(before.gid())).map_err(|error| {
                io::Error::new(error.kind(), format!("it would get another owner or group: {error}"))
            })?;
        }
        file.set_permissions(before.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn only_a_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
        for (link, target) in [("to_null", "/dev/null"), ("to_stdout", "/dev/stdout"), ("loop", "loop")] {
            symlink(target, path(link)).unwrap();
        }
        symlink("to_new", path("to_link")).unwrap();
        symlink("new.toml", path("to_new")).unwrap();
        let stream = |path: &str| Target::Stream(path.into());
        assert_eq!(Target::of(Path::new("-")), Target::Stdout);
        assert_eq!(Target::of(Path::new("/dev/stdout")), Target::Stdout);
        assert_eq!(Target::of(&path("to_stdout")), Target::Stdout);
        assert_eq!(Target::of(Path::new("/dev/fd/7")), stream("/dev/fd/7"));
        // A symbolic link to /proc/self/fd/2.
        assert!(
            matches!(Target::of(Path::new("/dev/stderr")), Target::Stream(path) if path.starts_with("/proc"))
        );
        assert_eq!(Target::of(Path::new("/dev/full")), stream("/dev/full"));
        assert_eq!(Target::of(&path("to_null")), stream("/dev/null"));
        assert_eq!(Target::of(&path("fifo")), Target::Stream(path("fifo")));
        assert_eq!(Target::of(&path("to_link")), Target::File(path("new.toml")));
        assert_eq!(Target::of(Path::new("new.toml")), Target::File("new.toml".into()));
        assert_eq!(Target::of(&path("loop")), Target::File(path("loop")));
    }

    #[test]
    fn a_replaced_file_keeps_its_owner_and_mode_and_a_new_one_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("director.toml");
        let facts = || {
            let found = path.metadata().unwrap();
            (found.mode() & 0o7777, found.uid(), found.gid(), std::fs::read_to_string(&path).unwrap())
        };
        let (own, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        replace(&path, "new").unwrap();
        assert_eq!(facts(), (0o600, own.as_raw(), group.as_raw(), "new".to_owned()));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        // Another owner needs a privilege that a contributor may lack.
        let owner = if std::os::unix::fs::chown(&path, Some(7), Some(8)).is_ok() {
            (7, 8)
        } else {
            (own.as_raw(), group.as_raw())
        };
        std::fs::write(directory.path().join(format!(".lvs-tund.{}.0", std::process::id())), "left").unwrap();
        replace(&path, "newer").unwrap();
        assert_eq!(facts(), (0o640, owner.0, owner.1, "newer".to_owned()));
        assert_eq!(replace(directory.path(), "").unwrap_err().kind(), ErrorKind::IsADirectory);
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 2, "the file, and what another process left");
    }
}
