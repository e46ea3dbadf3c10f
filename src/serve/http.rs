//! HTTP servers that no client can block: every kind of request has its own places ([`places`]), and there are deadlines
//! for clients that send or receive nothing. `/metrics`, `/healthz` and `/readyz` are served here, the API by
//! [`super::api`].

mod files;
mod peer;
mod places;
mod request;
mod scrape;
mod stall;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::middleware::from_fn;
use axum::routing::get;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::libc::{EMFILE, ENFILE};
use nix::unistd::Group;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;

use super::readiness::{self, Health};
use crate::failure::Failure;
use peer::Known;
use places::Places;
use request::Seated;
use scrape::Scrapes;
use stall::Stalling;

pub(crate) use files::{descriptors_max, raise_limit};
pub(crate) use peer::Peer;
pub(crate) use request::HttpNames;
pub(crate) use scrape::Render;

/// For a request's header, from the moment the connection is ready for one.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);

/// A connection is not used for further requests when it is older.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// The answer to clients without a place. The body has the form of the API's errors.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n\
    content-length: 100\r\n\r\n\
    {\"error\":{\"code\":\"busy\",\"message\":\"too many clients are connected; close some, or try again later\"}}";

/// For taking [`BUSY`].
const BUSY_DEADLINE: Duration = Duration::from_secs(1);

/// Clients that are given this answer at once; others are disconnected.
const BUSY_MAX: usize = 8;

/// After a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// For a peer that does not receive its answer.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

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
    let scrapes = Scrapes::start(render);
    let metrics = move || scrapes.clone().response();
    Router::new()
        .route("/healthz", get(readiness::healthz))
        .route("/readyz", get(readiness::readyz))
        .with_state(health)
        .route("/metrics", get(metrics))
}

/// For a socket that a browser can reach: see [`HttpNames`].
pub(crate) fn with_names(router: Router, names: HttpNames) -> Router {
    router.layer(from_fn(request::check_host)).layer(Extension(names))
}

/// A listening socket.
pub(crate) trait Listen: Send + 'static {
    /// What it accepts.
    type Stream: Known + AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection. Cancel-safe.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        TcpListener::accept(self).await.map(|(stream, _)| stream)
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        UnixListener::accept(self).await.map(|(stream, _)| stream)
    }
}

/// Serves until the runtime ends.
pub(crate) async fn serve<L: Listen>(listener: L, router: Router) {
    let server = Server::new(router);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(stream) => server.open(stream),
                Err(error) => server.on_accept_error(&error).await,
            },
            _ = ticks.tick() => server.places.end_overdue(Instant::now()),
        }
    }
}

/// What the connections of one listening socket share.
pub(crate) struct Server {
    places: Arc<Places>,
    router: Router,
    busy: Arc<Semaphore>,
}

impl Server {
    pub(crate) fn new(router: Router) -> Server {
        Server {
            places: Arc::new(Places::new(files::connections_max())),
            router: router.layer(from_fn(request::seat)),
            busy: Arc::new(Semaphore::new(BUSY_MAX)),
        }
    }

    /// Serves a connection, in a task of its own.
    pub(crate) fn open<S>(&self, mut stream: S)
    where
        S: Known + AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(seat) = self.places.admit(stream.key(), Instant::now()) else {
            let Ok(place) = self.busy.clone().try_acquire_owned() else { return };
            tokio::spawn(async move {
                // This little fits the socket's buffer; otherwise the client is not reading.
                let _ = tokio::time::timeout(BUSY_DEADLINE, stream.write_all(BUSY)).await;
                drop(place);
            });
            return;
        };
        let places = self.places.clone();
        let seated = Seated { places: places.clone(), seat: seat.clone() };
        let router = self.router.clone().layer(Extension(seated)).layer(Extension(stream.peer()));
        tokio::spawn(async move {
            let stream = TokioIo::new(Stalling::new(stream, WRITE_DEADLINE, seat.clone()));
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
            let connection = builder.serve_connection(stream, TowerToHyperService::new(router));
            tokio::pin!(connection);
            // A peer that disconnects or sends garbage is not the daemon's problem.
            tokio::select! {
                _ = &mut connection => {}
                () = seat.ended() => {}
                () = tokio::time::sleep(CONNECTION_AGE_MAX) => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        _ = &mut connection => {}
                        () = seat.ended() => {}
                    }
                }
            }
            places.leave(&seat);
        });
    }

    /// accept(2): most errors concern one connection only. When the process has no file left, an idle client's is used.
    async fn on_accept_error(&self, error: &io::Error) {
        if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) {
            self.places.make_room(Instant::now());
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
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
