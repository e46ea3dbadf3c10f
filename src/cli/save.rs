//! `lvs-tund save`: writes the running configuration as a file.

mod replace;

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::remote::ControlArguments;
use super::{Failure, print};
use replace::{Target, replace};

#[derive(Debug, clap::Args)]
pub(super) struct SaveArguments {
    /// Where to write it; an existing file is replaced atomically and keeps its owner and mode, a device or a FIFO is
    /// written to, `-` is standard output [default: standard output]
    file: Option<PathBuf>,
    #[command(flatten)]
    control: ControlArguments,
}

pub(super) fn run(arguments: &SaveArguments) -> Result<(), Failure> {
    let toml = arguments.control.client()?.configuration()?.toml;
    match arguments.file.as_deref() {
        None => print(&toml).map(drop),
        Some(path) => write(path, &toml),
    }
}

fn write(path: &Path, toml: &str) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::Failed(format!("{}: cannot be written: {error}", path.display()))
    };
    match Target::of(path) {
        Target::Stdout => print(toml).map(drop),
        Target::Stream(stream) => match write_to(&stream, toml) {
            // As with standard output: the reader has read enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome.map_err(|error| failed(&error)),
        },
        Target::File(file) => {
            replace(&file, toml).map_err(|error| failed(&format_args!("{error}; nothing was changed")))
        }
    }
}

fn write_to(stream: &Path, toml: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(stream)?.write_all(toml.as_bytes())
}
