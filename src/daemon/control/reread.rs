//! Reads the configuration file for a reload while the control task continues, so that a file that does not end delays
//! only its own reload.

use std::path::PathBuf;

use futures_util::{Stream, StreamExt};

use super::Input;
use crate::daemon::{ReadError, read_text};
use crate::serve::Demand;

/// Reloads that may wait for their file at once; further input waits for them.
const READS_MAX: usize = 128;

/// The configuration file, read again.
pub(crate) enum Reread {
    /// The director has no file.
    NoFile,
    /// Its name, and its text or why there is none.
    File {
        /// As given to `--config`.
        name: String,
        text: Result<String, ReadError>,
    },
}

/// Adds the text of the file to each request for a reload; other input passes it meanwhile.
pub(crate) fn with_text(
    input: impl Stream<Item = Input>,
    file: Option<PathBuf>,
) -> impl Stream<Item = Input> {
    let read = move |input| {
        let file = file.clone();
        async move {
            match input {
                Input::Request(request) if matches!(request.demand, Demand::Reload(_)) => {
                    Input::Reload(request, reread(file).await)
                }
                other => other,
            }
        }
    };
    input.map(read).buffer_unordered(READS_MAX)
}

async fn reread(file: Option<PathBuf>) -> Reread {
    let Some(path) = file else { return Reread::NoFile };
    let name = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || read_text(&path)).await;
    let text = read.unwrap_or_else(|error| Err(std::io::Error::other(error).into()));
    Reread::File { name, text }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use futures_util::stream;
    use nix::sys::stat::Mode;

    use super::*;
    use crate::control::model::Reload;
    use crate::serve::Request;

    fn reload() -> Input {
        Input::Request(Request::unanswered(Demand::Reload(Reload::default()), "test"))
    }

    #[tokio::test]
    async fn a_file_that_does_not_end_delays_nothing_but_its_reload() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let begun = Instant::now();
        let mut inputs = Box::pin(with_text(stream::iter([reload(), Input::Tend]), Some(path.clone())));
        assert!(matches!(inputs.next().await, Some(Input::Tend)), "the change passes the reload");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        std::thread::spawn(move || std::fs::write(path, "queues = 1").unwrap());
        let Some(Input::Reload(_, Reread::File { text, .. })) = inputs.next().await else { panic!() };
        assert_eq!(text.unwrap(), "queues = 1");
        let mut inputs = Box::pin(with_text(stream::iter([reload()]), None));
        assert!(matches!(inputs.next().await, Some(Input::Reload(_, Reread::NoFile))));
    }
}
