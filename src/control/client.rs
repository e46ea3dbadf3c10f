//! Queries a running director over its control socket. Blocking: one request at a time, for commands.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::StreamExt;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use super::error::ControlError;
use super::model::{
    Change, Changed, CheckNow, Configuration, Connection, ErrorBody, Event, Reload, Status, VirtualServices,
};
use crate::config::plan::CONTROL_DEFAULT;

/// The time limit for the head of an answer. A restore of a hundred thousand lines takes seconds.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// The environment variable that names the socket if no option does.
pub const VARIABLE: &str = "LVS_TUND_CONTROL";

/// Why a request failed. Each message is one sentence: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon listens there.
    #[error(
        "no director is running at {path}: {error}; start one, or name its socket with --control or {VARIABLE}"
    )]
    NotRunning {
        /// The socket.
        path: String,
        /// The error of connect(2).
        error: io::Error,
    },
    /// This user may not use the socket.
    #[error(
        "no permission to use {path}; run as root, or as a member of its group (control_group in director.toml)"
    )]
    NoPermission {
        /// The socket.
        path: String,
    },
    /// The connection broke, or the answer is not valid.
    #[error("the director at {path} sent an invalid answer: {message}")]
    NoAnswer {
        /// The socket.
        path: String,
        /// What is wrong with the answer.
        message: String,
    },
    /// The director rejected the request, with its reason.
    #[error("{0}")]
    Refused(ControlError),
}

/// A connection to a director's control socket, opened for each request.
pub struct Client {
    path: PathBuf,
    runtime: Runtime,
}

impl Client {
    /// Uses the socket `given` by `--control`, otherwise that of [`VARIABLE`], otherwise the default one.
    ///
    /// # Errors
    /// This process cannot create its runtime.
    pub fn new(given: Option<&Path>) -> Result<Client, ClientError> {
        let named = || std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let path = given.map(Path::to_owned).or_else(named).unwrap_or_else(|| CONTROL_DEFAULT.into());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| no_answer(&path, error))?;
        Ok(Client { path, runtime })
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The director as a whole.
    pub fn status(&self) -> Result<Status, ClientError> {
        self.get("/api/v1/status")
    }

    /// All virtual services with their real servers.
    pub fn virtual_services(&self) -> Result<VirtualServices, ClientError> {
        self.get("/api/v1/virtual_services")
    }

    /// The running configuration.
    pub fn configuration(&self) -> Result<Configuration, ClientError> {
        self.get("/api/v1/config")
    }

    /// Applies operations.
    pub fn change(&self, change: &Change) -> Result<Changed, ClientError> {
        self.post("/api/v1/changes", change)
    }

    /// Replaces the whole configuration.
    pub fn configure(&self, configuration: &Configuration) -> Result<Changed, ClientError> {
        self.post("/api/v1/config", configuration)
    }

    /// Makes the director read its configuration file again.
    pub fn reload(&self, reload: &Reload) -> Result<Changed, ClientError> {
        self.post("/api/v1/reload", reload)
    }

    /// Requests probes of real servers at once.
    pub fn check_now(&self, request: &CheckNow) -> Result<Changed, ClientError> {
        self.post("/api/v1/check_now", request)
    }

    /// Shows every connection and template; `query` filters, as in "real_server=172.25.3.2".
    pub fn connections(
        &self,
        query: &str,
        show: impl FnMut(Connection) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        self.lines(&format!("/api/v1/connections?stream=true&{query}"), show)
    }

    /// Shows every event from now on, until the director ends or `show` breaks.
    pub fn events(&self, show: impl FnMut(Event) -> ControlFlow<()>) -> Result<(), ClientError> {
        self.lines("/api/v1/events", show)
    }

    /// A GET request with a JSON answer.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.runtime.block_on(async { self.read(self.ask(Method::GET, path, String::new()).await?).await })
    }

    /// A POST request with a JSON body and a JSON answer.
    pub fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, ClientError> {
        let body = serde_json::to_string(body).map_err(|error| no_answer(&self.path, error))?;
        self.runtime.block_on(async { self.read(self.ask(Method::POST, path, body).await?).await })
    }

    /// Reads JSON line by line, to the end or until `show` breaks.
    pub fn lines<T: DeserializeOwned>(
        &self,
        path: &str,
        mut show: impl FnMut(T) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        self.runtime.block_on(async {
            let answer = self.ask(Method::GET, path, String::new()).await?;
            let mut chunks = answer.into_body().into_data_stream();
            let mut rest: Vec<u8> = Vec::new();
            while let Some(chunk) = chunks.next().await {
                let chunk: Bytes = chunk.map_err(|error| no_answer(&self.path, error))?;
                rest.extend_from_slice(&chunk);
                let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
                for line in rest[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let value = serde_json::from_slice(line).map_err(|error| no_answer(&self.path, error))?;
                    if show(value).is_break() {
                        return Ok(());
                    }
                }
                rest.drain(..whole);
            }
            Ok(())
        })
    }

    /// Sends the request; an answer without a success status is an error.
    async fn ask(&self, method: Method, path: &str, body: String) -> Result<Response<Body>, ClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| {
            let path = self.path.display().to_string();
            match error.kind() {
                io::ErrorKind::PermissionDenied => ClientError::NoPermission { path },
                _ => ClientError::NotRunning { path, error },
            }
        })?;
        let failed = |error: hyper::Error| no_answer(&self.path, error);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        // The task ends with the stream; the reader of the answer notices any error.
        tokio::spawn(async move { _ = connection.await });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "lvs-tund")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| no_answer(&self.path, error))?;
        let response = tokio::time::timeout(ANSWER_DEADLINE, sender.send_request(request)).await;
        let too_late = |_| no_answer(&self.path, format!("no answer within {} s", ANSWER_DEADLINE.as_secs()));
        let response = response.map_err(too_late)?.map_err(failed)?.map(Body::new);
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let body = self.whole(response).await?;
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(ErrorBody { error }) => Err(ClientError::Refused(error)),
            Err(_) => Err(no_answer(&self.path, status)),
        }
    }

    async fn read<T: DeserializeOwned>(&self, response: Response<Body>) -> Result<T, ClientError> {
        let body = self.whole(response).await?;
        serde_json::from_slice(&body).map_err(|error| no_answer(&self.path, error))
    }

    async fn whole(&self, response: Response<Body>) -> Result<Bytes, ClientError> {
        let whole = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        whole.map_err(|error| no_answer(&self.path, error))
    }
}

fn no_answer(path: &Path, message: impl ToString) -> ClientError {
    ClientError::NoAnswer { path: path.display().to_string(), message: message.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_an_absent_director_names_the_socket_and_the_remedy() {
        let client = Client::new(Some(Path::new("/nonexistent/director.sock"))).unwrap();
        let message = client.status().unwrap_err().to_string();
        assert!(message.starts_with("no director is running at /nonexistent/director.sock: "), "{message}");
        assert!(message.ends_with("name its socket with --control or LVS_TUND_CONTROL"), "{message}");
    }
}
