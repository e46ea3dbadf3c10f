//! `lvs-tund save`: writes the running configuration as a file.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::remote::ControlArguments;
use super::{Failure, print};

#[derive(Debug, clap::Args)]
pub(super) struct SaveArguments {
    /// Where to write it; an existing file is replaced atomically [default: standard output]
    file: Option<PathBuf>,
    #[command(flatten)]
    control: ControlArguments,
}

pub(super) fn run(arguments: &SaveArguments) -> Result<(), Failure> {
    let toml = arguments.control.client()?.configuration()?.toml;
    match &arguments.file {
        None => print(&toml).map(drop),
        Some(path) => write(path, &toml).map_err(|error| {
            Failure::Failed(format!("{}: cannot be written: {error}; nothing was changed", path.display()))
        }),
    }
}

/// Writes a temporary file in the same directory and renames it: the file is never half written. Only its owner can
/// read a new file, because it may contain the hash key.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    // Follows a symbolic link instead of replacing it.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    let temporary = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let options = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
    let written = options.and_then(|mut file| {
        if let Ok(before) = path.metadata() {
            file.set_permissions(before.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    });
    if written.is_err() {
        // A temporary file that cannot be removed does no harm.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
