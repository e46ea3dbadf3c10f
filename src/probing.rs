//! The sockets of checks that go through the tunnel.
//!
//! ```text
//! TCP, UDP   own socket, DIP:61000→VIP:port, marked ─▶ rule ─▶ TUN ─▶ director, pinned to RIP ─▶ real server
//! ICMP       echo request DIP→VIP, wrapped here ─▶ raw socket ─────────────────────────────────▶ real server
//! answers    VIP→DIP, directly: to the own socket; echo replies and errors to a packet socket
//! ```
//! The packets belong to no virtual service and no connection. [`crate::host::DirectorHost::set_probed`] prepares the host
//! for them.
//!
//! An echo reply or an ICMP error from a VIP that is an address of this host does not pass the validation of its source:
//! it has no port by which a rule would know it. So they are taken from a packet socket, before the validation.

mod echo;
mod icmp_receiver;
mod ports;
mod sockets;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::errno::Errno;

use crate::director::cluster::Cluster;
use crate::director::pins::{Pinned, Pins};
use crate::director::real_server::RealServer;
use crate::packet::{Flow, protocol};
use crate::time::Moment;

pub use echo::ProbeEcho;
use icmp_receiver::{IcmpReceiver, Inbox};
use ports::{Lease, Ports};
pub(crate) use sockets::received;
pub use sockets::{ProbeDatagrams, ProbeStream};

/// No probe takes longer. Its pin ends with its socket.
const PIN_MAX: Duration = Duration::from_secs(3600);

/// How long the last packet of a closed socket may take through the TUN device.
const LINGER: Duration = Duration::from_secs(1);

/// Where a probe goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The name of the virtual service, if the real server serves several with different encapsulations.
    pub virtual_service: String,
    /// The real server under test.
    pub rip: IpAddr,
    /// The VIP and the port; the port is 0 for echo requests.
    pub address: SocketAddr,
}

/// Opens the sockets of probes.
pub struct ProbeNet {
    cluster: Arc<ArcSwap<Cluster>>,
    pins: Arc<Pins>,
    ports: Arc<Ports>,
    icmp_receiver: IcmpReceiver,
    now: Arc<dyn Fn() -> Moment + Send + Sync>,
}

/// What a probe has as long as it runs: its port, its pin, and what is received about it.
struct Hold {
    lease: Lease,
    pinned: Option<Pinned>,
    inbox: Inbox,
    now: Arc<dyn Fn() -> Moment + Send + Sync>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(pinned) = self.pinned.take() {
            pinned.end_at((self.now)().after(LINGER));
        }
    }
}

impl ProbeNet {
    /// `cluster` is read for each probe; `pins` are those of the director's tables, and `now` is its clock. Needs a tokio
    /// runtime, and belongs to the network namespace of the calling thread.
    ///
    /// # Errors
    /// Without CAP_NET_RAW: `PermissionDenied`.
    pub fn new(
        cluster: Arc<ArcSwap<Cluster>>,
        pins: Arc<Pins>,
        now: impl Fn() -> Moment + Send + Sync + 'static,
    ) -> io::Result<ProbeNet> {
        let icmp_receiver = IcmpReceiver::open()?;
        Ok(ProbeNet { cluster, pins, ports: Arc::default(), icmp_receiver, now: Arc::new(now) })
    }

    /// The real server, and the director's own address on the path to it.
    fn real_server(&self, to: &Destination) -> io::Result<(Arc<RealServer>, Ipv4Addr)> {
        let cluster = self.cluster.load();
        let is_it = |server: &&Arc<RealServer>| IpAddr::V4(server.rip) == to.rip && server.is_present();
        let named = cluster.in_order().iter().find(|service| service.config.name == to.virtual_service);
        let IpAddr::V4(rip) = to.rip else { return Err(Errno::EAFNOSUPPORT.into()) };
        let server = named
            .and_then(|service| service.real_servers.iter().find(is_it))
            .or_else(|| cluster.real_server_at(rip).filter(is_it))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{rip} is no real server")))?;
        let source = server.path.source;
        // The host has no route to it.
        if source.is_unspecified() { Err(Errno::ENETUNREACH.into()) } else { Ok((server.clone(), source)) }
    }

    /// Takes a port and pins the flow from there. `bind` opens the socket; where another program has the port, the next
    /// one is tried.
    fn hold<T>(
        &self,
        number: u8,
        to: &Destination,
        bind: impl Fn(Ipv4Addr, u16) -> io::Result<T>,
    ) -> io::Result<(Hold, T)> {
        let (server, source) = self.real_server(to)?;
        let IpAddr::V4(vip) = to.address.ip() else { return Err(Errno::EAFNOSUPPORT.into()) };
        let mut refused = None;
        for _ in 0..Ports::TRIES {
            let lease = self.ports.take(number, to.address).ok_or(Errno::EADDRNOTAVAIL)?;
            let opened = match bind(source, lease.port()) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    refused = Some(error);
                    continue;
                }
                opened => opened?,
            };
            let vip_port = to.address.port();
            let flow = Flow {
                protocol: number,
                client: source.into(),
                client_port: lease.port(),
                vip: vip.into(),
                vip_port,
            };
            let inbox = self.icmp_receiver.inbox(&flow);
            let now = (self.now)();
            let pinned = Some(self.pins.pin(flow, &server, now.after(PIN_MAX), now));
            return Ok((Hold { lease, pinned, inbox, now: self.now.clone() }, opened));
        }
        Err(refused.unwrap_or_else(|| Errno::EADDRINUSE.into()))
    }

    /// Opens a connection to the VIP at this real server.
    ///
    /// # Errors
    /// The kernel's: ECONNREFUSED, EHOSTUNREACH, ENOPROTOOPT where no program of the real server takes encapsulated packets;
    /// EADDRNOTAVAIL if all ports of probes are in use.
    pub async fn connect_tcp(&self, to: &Destination) -> io::Result<ProbeStream> {
        let (hold, socket) = self.hold(protocol::TCP, to, sockets::bound_tcp)?;
        ProbeStream::connect(socket, to.address, hold).await
    }

    /// Opens a socket for datagrams to and from the VIP at this real server.
    ///
    /// # Errors
    /// As [`ProbeNet::connect_tcp`].
    pub fn open_udp(&self, to: &Destination) -> io::Result<ProbeDatagrams> {
        let (hold, socket) = self.hold(protocol::UDP, to, |source, port| {
            sockets::connected_udp((source, port).into(), to.address)
        })?;
        Ok(ProbeDatagrams::new(socket, hold))
    }

    /// Prepares echo requests to the VIP at this real server. They have DF, and may be larger than the path takes.
    ///
    /// # Errors
    /// As [`ProbeNet::connect_tcp`]; without CAP_NET_RAW: `PermissionDenied`.
    pub fn open_echo(&self, to: &Destination) -> io::Result<ProbeEcho> {
        let (hold, socket) = self.hold(protocol::ICMP, to, |_, _| echo::raw())?;
        Ok(ProbeEcho::new(socket, self.cluster.clone(), self.pins.clone(), hold))
    }
}
