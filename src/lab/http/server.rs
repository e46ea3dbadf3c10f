//! A web server that answers every request with its own name.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{BODY_MAX, read_head};
use crate::lab::{Attempt, LabError, Namespace};

/// How long a server waits for its port.
const BIND_MAX: Duration = Duration::from_secs(1);

/// How long a connection may be idle.
const PATIENCE: Duration = Duration::from_secs(60);

/// Listens in a namespace until it is dropped; one thread per connection.
///
/// Every path answers with the name and a newline, except `/bytes/N`, which answers with N bytes. Request
/// bodies are read and discarded.
#[derive(Debug)]
pub struct Server {
    shared: Arc<ServerState>,
    stop: UnixStream,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct ServerState {
    name: String,
    requests: AtomicU64,
    open: Mutex<HashMap<u64, TcpStream>>,
}

impl Server {
    /// # Errors
    /// The address cannot be bound.
    pub fn start(namespace: &Namespace, address: SocketAddr, name: &str) -> Result<Self, LabError> {
        let what = || format!("cannot serve HTTP on {address} in {}", namespace.name());
        let listener = namespace.run(|| bind(address)).attempt(what)?;
        listener.set_nonblocking(true).attempt(what)?;
        let (stop, stopped) = UnixStream::pair().attempt(what)?;
        let shared = Arc::new(ServerState { name: name.into(), requests: 0.into(), open: Mutex::default() });
        let serving = shared.clone();
        let accepting = namespace.start(move || accept(&listener, &stopped, &serving))?;
        Ok(Server { shared, stop, accepting: Some(accepting) })
    }

    /// The name that it answers with.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Requests answered so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.shutdown(Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// A child of another thread has the socket of a server that has just ended until it calls exec(2).
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let deadline = Instant::now() + BIND_MAX;
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            bound => return bound,
        }
    }
}

fn accept(listener: &TcpListener, stopped: &UnixStream, shared: &ServerState) {
    thread::scope(|scope| {
        for number in 0.. {
            let Some(stream) = next(listener, stopped) else { break };
            let Ok(clone) = stream.try_clone() else { continue };
            shared.open.lock().unwrap_or_else(PoisonError::into_inner).insert(number, clone);
            let serving = thread::Builder::new().name("lab-http".into()).spawn_scoped(scope, move || {
                // A client that disconnects in the middle of a request is not an error.
                let _ = serve(stream, shared);
                shared.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            });
            if serving.is_err() {
                shared.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            }
        }
        for stream in shared.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
}

/// The next connection; `None` if the server has to stop.
fn next(listener: &TcpListener, stopped: &UnixStream) -> Option<TcpStream> {
    loop {
        let mut waiting = [
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => (),
            Err(_) => return None,
        }
        if waiting[1].any() == Some(true) {
            return None;
        }
        // A connection may be closed before it is accepted.
        if let Ok((stream, _)) = listener.accept() {
            return Some(stream);
        }
    }
}

fn serve(stream: TcpStream, shared: &ServerState) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut stream = BufReader::new(stream);
    while let Some(head) = read_head(&mut stream)? {
        let length = head.content_length.unwrap_or(0).min(BODY_MAX);
        io::copy(&mut stream.by_ref().take(length), &mut io::sink())?;
        let body = body(head.first.split(' ').nth(1).unwrap_or("/"), &shared.name);
        let connection = if head.closes { "close" } else { "keep-alive" };
        let mut response = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        response.extend_from_slice(&body);
        shared.requests.fetch_add(1, Ordering::Relaxed);
        stream.get_mut().write_all(&response)?;
        if head.closes {
            break;
        }
    }
    Ok(())
}

fn body(path: &str, name: &str) -> Vec<u8> {
    let bytes = path.strip_prefix("/bytes/").and_then(|count| count.parse::<u64>().ok());
    match bytes {
        Some(count) => vec![b'x'; count.min(BODY_MAX) as usize],
        None => format!("{name}\n").into_bytes(),
    }
}
