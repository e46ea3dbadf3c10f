//! A UDP server that answers each datagram with its own name and the datagram's payload.

use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::{Attempt, LabError, Namespace};

/// How often a server checks whether it has to stop.
const TICK: Duration = Duration::from_millis(20);

/// Listens in a namespace until it is dropped.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    answering: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds `address` even before the host has it. Bound to any address, the server would answer from the
    /// real server's own address instead of the VIP.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn start(namespace: &Namespace, address: SocketAddrV4, name: &str) -> Result<Self, LabError> {
        let what = || format!("cannot serve UDP on {address} in {}", namespace.name());
        let socket = namespace.run(|| bind(address)).attempt(what)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (stop.clone(), name.to_owned());
        let answering = namespace.start(move || answer(&socket, &name, &stopped))?;
        Ok(Server { stop, answering: Some(answering) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(answering) = self.answering.take() {
            let _ = answering.join();
        }
    }
}

/// Sends `message` from `socket` and returns the answer.
///
/// # Errors
/// An error of the socket; `WouldBlock` if nothing arrives within its read timeout.
pub fn ask(socket: &UdpSocket, to: SocketAddrV4, message: &str) -> io::Result<String> {
    socket.send_to(message.as_bytes(), to)?;
    let mut buffer = vec![0; 65_535];
    let (length, _) = socket.recv_from(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn bind(address: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_freebind_v4(true)?;
    socket.bind(&address.into())?;
    socket.set_read_timeout(Some(TICK))?;
    Ok(socket.into())
}

fn answer(socket: &UdpSocket, name: &str, stopped: &AtomicBool) {
    let mut buffer = vec![0; 65_535];
    while !stopped.load(Ordering::Relaxed) {
        if let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let answer = [name.as_bytes(), b" ", &buffer[..length]].concat();
            let _ = socket.send_to(&answer, client);
        }
    }
}
