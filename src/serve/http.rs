//! HTTP servers that no client can block: a limit of connections, and deadlines for clients that send or
//! receive nothing. `/metrics`, `/healthz` and `/readyz` are served here, the API by [`super::api`].

mod stall;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::Listener;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::unistd::Group;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::readiness::{self, Health};
use crate::failure::Failure;
use crate::metrics::exposition::CONTENT_TYPE;
use stall::Stalling;

/// Connections per listening socket; further clients get status 503.
const CONNECTIONS_MAX: usize = 256;

/// For a request's header, from the moment the connection is ready for one.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);

/// The answer to clients above the limit. The body has the form of the API's errors.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n\
    content-length: 100\r\n\r\n\
    {\"error\":{\"code\":\"busy\",\"message\":\"too many clients are connected; close some, or try again later\"}}";

/// For a peer that does not receive its answer.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// Renders the metrics at the time of the request.
pub(crate) type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// The peer of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer(pub String);

/// A connection with the address of its peer.
pub(crate) trait Known {
    /// Uid and pid for a Unix socket (SO_PEERCRED), address and port for TCP; ends up in the log.
    fn peer(&self) -> Peer;
}

impl Known for UnixStream {
    fn peer(&self) -> Peer {
        let Ok(credentials) = self.peer_cred() else { return Peer("unknown".to_owned()) };
        let pid = credentials.pid().map(|pid| format!(", pid {pid}")).unwrap_or_default();
        Peer(format!("uid {}{pid}", credentials.uid()))
    }
}

impl Known for TcpStream {
    fn peer(&self) -> Peer {
        Peer(self.peer_addr().map_or_else(|_| "unknown".to_owned(), |address| address.to_string()))
    }
}

/// The advice to an operator if the address of the metrics is in use.
pub(crate) const METRICS_REMEDY: &str = "free it, or choose another with --metrics ADDRESS:PORT";

/// The same for the read-only API.
pub(crate) const API_REMEDY: &str = "free it, or choose another";

/// Binds the address before anything on the host is changed.
pub(crate) async fn listen(address: SocketAddr, what: &str, remedy: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::Failed(format!("cannot serve {what} on {address}: {error}; {remedy}")))
}

/// A socket's path, removed on drop, so that no client finds a socket that no director serves.
#[derive(Debug)]
pub struct SocketPath(PathBuf);

impl Drop for SocketPath {
    fn drop(&mut self) {
        // It may have been removed already.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Binds a Unix socket. A stale socket at the path is replaced; any other file is not.
pub(crate) fn listen_unix(path: &Path, group: Option<&str>) -> Result<(UnixListener, SocketPath), Failure> {
    let failed = |error: io::Error| {
        Failure::Failed(format!("control socket {}: {error}; choose another with --control", path.display()))
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    // connect(2) fails for a regular file too, and that must not be removed.
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
    if let Some(name) = group {
        give_to_group(path, name)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok((listener, path_held))
}

/// As [`listen_unix`] for a default path, which is optional: a second daemon, or one without the permission to create it,
/// runs without.
///
/// # Errors
/// The configuration is wrong.
pub(crate) fn listen_unix_if_possible(
    path: &Path,
    group: Option<&str>,
    role: &str,
) -> Result<Option<(UnixListener, SocketPath)>, Failure> {
    match listen_unix(path, group) {
        Ok(control) => Ok(Some(control)),
        Err(error @ Failure::Refused(_)) => Err(error),
        Err(error) => {
            tracing::warn!(
                kind = "no_control_socket",
                "{role}: running without a control socket, so no command can reach this {role}: {error}"
            );
            Ok(None)
        }
    }
}

fn give_to_group(path: &Path, name: &str) -> Result<(), Failure> {
    nix::unistd::chown(path, None, Some(group(name)?.gid))
        .map_err(|error| Failure::Failed(format!("control socket for group \"{name}\": {error}")))
}

/// The group that may use the control socket; refuses one that this host does not have.
pub(crate) fn group(name: &str) -> Result<Group, Failure> {
    let group = Group::from_name(name).map_err(io::Error::from);
    let group = group.map_err(|error| Failure::Failed(format!("control_group \"{name}\": {error}")))?;
    group.ok_or_else(|| {
        Failure::Refused(format!(
            "control_group = \"{name}\": this host has no such group; create it with `groupadd {name}`"
        ))
    })
}

/// `/metrics`, `/healthz`, `/readyz`: for a monitoring system.
pub(crate) fn monitoring(render: Render, health: Arc<Health>) -> Router {
    let metrics = move || {
        let render = render.clone();
        async move {
            match tokio::task::spawn_blocking(move || render()).await {
                Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
                Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        }
    };
    Router::new()
        .route("/healthz", get(readiness::healthz))
        .route("/readyz", get(readiness::readyz))
        .with_state(health)
        .route("/metrics", get(metrics))
}

/// Serves until the runtime ends.
pub(crate) async fn serve<L>(mut listener: L, router: Router)
where
    L: Listener,
    L::Io: Known,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (mut stream, _) = listener.accept().await;
        let Ok(place) = places.clone().try_acquire_owned() else {
            // This little fits the socket's buffer; otherwise the client is not reading.
            tokio::spawn(async move { tokio::time::timeout(HEADER_DEADLINE, stream.write_all(BUSY)).await });
            continue;
        };
        let service = TowerToHyperService::new(router.clone().layer(Extension(stream.peer())));
        tokio::spawn(async move {
            let stream = TokioIo::new(Stalling::new(stream, WRITE_DEADLINE));
            let mut connection = http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
            // A peer that disconnects or sends garbage is not the daemon's problem.
            let _ = connection.serve_connection(stream, service).await;
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[tokio::test]
    async fn only_owner_and_group_may_use_the_control_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("director.sock");
        let own = Group::from_gid(nix::unistd::getegid()).unwrap().unwrap();
        let (_listener, held) = listen_unix(&path, Some(&own.name)).unwrap();
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o777, found.gid()), (0o660, own.gid.as_raw()));
        drop(held);
        let error = listen_unix(&path, Some("no-such-group")).unwrap_err();
        assert!(matches!(&error, Failure::Refused(_)), "{error}");
        assert!(error.to_string().contains("this host has no such group"), "{error}");
        assert!(!path.exists(), "a socket that cannot be created leaves nothing");
    }
}
