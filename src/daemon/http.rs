//! `/metrics`, `/healthz`, `/readyz`: what a monitoring system asks.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::Listener;
use tokio::net::{TcpListener, UnixListener};

use crate::failure::Failure;
use crate::metrics::exposition::CONTENT_TYPE;

/// Renders the metrics at the moment of the question.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Takes the address before anything on the host is changed.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let remedy = "free it, or set another one with --metrics ADDRESS:PORT";
        Failure::Failed(format!("cannot serve metrics on {address}: {error}; {remedy}"))
    })
}

/// A socket's path, removed with the value: nobody finds a door that no one opens.
pub struct SocketPath(PathBuf);

impl Drop for SocketPath {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Takes a Unix socket's path; a socket that nobody listens on any more is replaced, and nothing but a socket.
pub fn listen_unix(path: &Path) -> Result<(UnixListener, SocketPath), Failure> {
    let failed = |error: io::Error| {
        Failure::Failed(format!("control socket {}: {error}; set another one with --control", path.display()))
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    // connect(2) is refused by a regular file too, which is somebody's.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let is_refused = || {
        std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    if is_socket && is_refused() {
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let path_held = SocketPath(path.to_owned());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok((listener, path_held))
}

/// Answers until the runtime ends. `is_ready` turns true when packets flow.
pub async fn serve<L>(listener: L, render: Render, is_ready: Arc<AtomicBool>)
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let metrics = move || {
        let render = render.clone();
        async move {
            match tokio::task::spawn_blocking(move || render()).await {
                Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
                Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        }
    };
    let ready = move || async move {
        if is_ready.load(Ordering::Acquire) {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
        }
    };
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("metrics server: {error}");
    }
}
