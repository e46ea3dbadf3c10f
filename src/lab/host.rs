//! One machine of the lab: a namespace with an interface, an address and programs.

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::link::{self, Counters};
use super::{
    Attempt, Capture, Daemon, Filter, Interrupt, LabError, Namespace, Scrape, TemporaryDirectory, http, udp,
};

/// The interface of every host.
pub(super) const INTERFACE: &str = "eth0";

/// How long a host waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The role of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostRole {
    /// Makes requests.
    Client,
    /// Runs `lvs-tund director`.
    Director,
    /// Runs `lvs-tund realserver` and an application.
    RealServer,
    /// None of these, in the director's subnet.
    Stranger,
}

/// One machine: its name, its address and its namespace.
#[derive(Debug)]
pub struct Host {
    /// The name, such as `server2`.
    pub name: String,
    /// The role.
    pub role: HostRole,
    /// The address of its interface.
    pub address: Ipv4Addr,
    /// The length of the subnet's prefix.
    pub prefix_length: u8,
    /// The default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// The network namespace.
    pub namespace: Namespace,
    pub(super) program: PathBuf,
    pub(super) interrupt: Option<Interrupt>,
    pub(super) directory: Arc<TemporaryDirectory>,
    pub(super) programs_started: AtomicU64,
}

impl Host {
    /// Runs `work` inside the namespace; see [`Namespace::run`].
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(work)
    }

    /// The name of its interface, the same on every host.
    pub fn interface(&self) -> &'static str {
        INTERFACE
    }

    /// One HTTP request from this host.
    ///
    /// # Errors
    /// See [`http::get`].
    pub fn get(&self, address: impl Into<SocketAddr>, path: &str) -> io::Result<http::Response> {
        let address = address.into();
        self.run(|| http::get(address, path, PATIENCE))
    }

    /// Opens a connection from this host and keeps it open.
    ///
    /// # Errors
    /// See [`http::Connection::open`].
    pub fn connect(&self, address: impl Into<SocketAddr>) -> io::Result<http::Connection> {
        let address = address.into();
        self.run(|| http::Connection::open(address, PATIENCE))
    }

    /// A UDP socket of this host on a free port; it waits 2 s for answers; see [`udp::ask`].
    ///
    /// # Errors
    /// Binding the socket fails.
    pub fn udp_socket(&self) -> io::Result<std::net::UdpSocket> {
        let socket = self.run(|| std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    }

    /// A web server on this host that answers with the host's name, on all its addresses.
    ///
    /// # Errors
    /// See [`http::Server::start`].
    pub fn serve_http(&self, port: u16) -> Result<http::Server, LabError> {
        http::Server::start(&self.namespace, (Ipv4Addr::UNSPECIFIED, port).into(), &self.name)
    }

    /// A UDP server on this host that answers with the host's name, on one address.
    ///
    /// # Errors
    /// See [`udp::Server::start`].
    pub fn serve_udp(&self, address: SocketAddrV4) -> Result<udp::Server, LabError> {
        udp::Server::start(&self.namespace, address, &self.name)
    }

    /// Starts the lab's program (this one, unless [`Topology`](super::Topology) names another) on this host.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn_daemon<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Daemon, LabError> {
        Daemon::spawn(self, &self.program, arguments, self.next_log(), None)
    }

    /// As [`spawn_daemon`](Self::spawn_daemon), with another standard error than its log.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn_daemon_with_errors_to<A: AsRef<OsStr>>(
        &self,
        arguments: &[A],
        errors: Stdio,
    ) -> Result<Daemon, LabError> {
        Daemon::spawn(self, &self.program, arguments, self.next_log(), Some(errors))
    }

    fn next_log(&self) -> PathBuf {
        let number = self.programs_started.fetch_add(1, Ordering::Relaxed);
        self.directory.path().join(format!("{}-{number}.log", self.name))
    }

    /// Reads `http://127.0.0.1:port/metrics` on this host.
    ///
    /// # Errors
    /// There is no answer.
    pub fn scrape(&self, port: u16) -> Result<Scrape, LabError> {
        let answer = self.get((Ipv4Addr::LOCALHOST, port), "/metrics");
        let response = answer.attempt(|| format!("cannot read the metrics of {}", self.name))?;
        Ok(Scrape::parse(&response.text()))
    }

    /// Captures on the host's interface.
    ///
    /// # Errors
    /// See [`Capture::start`].
    pub fn capture(&self, filter: Filter) -> Result<Capture, LabError> {
        Capture::start(&self.namespace, INTERFACE, filter)
    }

    /// The counters of one of its interfaces.
    ///
    /// # Errors
    /// The interface does not exist.
    pub fn counters(&self, interface: &str) -> Result<Counters, LabError> {
        link::counters(&self.namespace, interface)
    }

    /// The names of its interfaces.
    ///
    /// # Errors
    /// An error of netlink.
    pub fn interfaces(&self) -> Result<Vec<String>, LabError> {
        link::link_names(&self.namespace)
    }

    /// Unplugs the host's cable, or plugs it in again; the default route is lost with the link and restored.
    ///
    /// # Errors
    /// An error of netlink.
    pub fn set_connected(&self, connected: bool) -> Result<(), LabError> {
        if !connected {
            return link::set_down(&self.namespace, INTERFACE);
        }
        link::set_up(&self.namespace, INTERFACE)?;
        self.gateway.map_or(Ok(()), |gateway| link::add_default_route(&self.namespace, gateway))
    }

    /// Changes the MTU of the host's interface.
    ///
    /// # Errors
    /// An error of netlink.
    pub fn set_mtu(&self, mtu: u32) -> Result<(), LabError> {
        link::set_mtu(&self.namespace, INTERFACE, mtu)
    }

    /// Adds an address to the host's interface, as a failover would.
    ///
    /// # Errors
    /// An error of netlink.
    pub fn add_address(&self, address: Ipv4Addr, prefix_length: u8) -> Result<(), LabError> {
        link::add_address(&self.namespace, INTERFACE, address, prefix_length)
    }

    /// Writes a file into the lab's temporary directory.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_file(&self, name: &str, text: &str) -> Result<PathBuf, LabError> {
        self.directory.write(&format!("{}-{name}", self.name), text)
    }
}
