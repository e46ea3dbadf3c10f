//! Captures the IPv4 packets on an interface, in both directions, with enough bytes of each to prove things
//! about them.
//!
//! An `AF_PACKET` socket cannot be bound to an interface without a raw `sockaddr_ll`, so it listens to its
//! whole namespace and the interface is compared per packet. The kernel compares the addresses, so a capture
//! of few packets loses none in a flood of others.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, recvfrom};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::link::link_index;
use super::{Attempt, LabError, Namespace};
use crate::packet::ipv4::field;

// linux/if_ether.h, linux/if_packet.h
const ETH_P_ALL: u16 = 0x0003;
const ETH_P_IP: u16 = 0x0800;
const PACKET_OUTGOING: u8 = 4;

/// Bytes kept of each packet: an outer and an inner header with options, and some payload.
const SNAPSHOT: usize = 256;

/// How long a capture waits for queued packets when it is stopped.
const DRAIN: Duration = Duration::from_millis(20);

// Room for some thousand packets; the kernel caps it at net.core.rmem_max.
const RECEIVE_BUFFER: usize = 8 << 20;

/// Which packets a capture keeps; `None` means any.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Only packets with this source.
    pub source: Option<Ipv4Addr>,
    /// Only packets with this destination.
    pub destination: Option<Ipv4Addr>,
}

/// The direction of a packet, as the host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The host received the packet.
    Received,
    /// The host transmitted the packet.
    Transmitted,
}

/// The first bytes of one IPv4 packet.
#[derive(Debug, Clone)]
pub struct CapturedPacket {
    /// Whether the host received or transmitted it.
    pub direction: Direction,
    /// From the IPv4 header on, truncated at 256 bytes.
    pub bytes: Vec<u8>,
}

impl CapturedPacket {
    /// The source address.
    pub fn source(&self) -> Ipv4Addr {
        field::SOURCE.read(&self.bytes).into()
    }

    /// The destination address.
    pub fn destination(&self) -> Ipv4Addr {
        field::DESTINATION.read(&self.bytes).into()
    }

    /// The protocol of the payload.
    pub fn protocol(&self) -> u8 {
        field::PROTOCOL.read(&self.bytes)
    }

    /// The IPv4 total length: that of the super-packet if the kernel had not segmented it yet.
    pub fn length(&self) -> u64 {
        field::TOTAL_LENGTH.read(&self.bytes).into()
    }
}

type Seen = (Mutex<Vec<CapturedPacket>>, Condvar);

/// A running capture; dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Capture {
    /// Captures on `interface` from the moment this returns.
    ///
    /// # Errors
    /// When the interface does not exist or the kernel refuses the socket.
    pub fn start(namespace: &Namespace, interface: &str, filter: Filter) -> Result<Self, LabError> {
        let what = || format!("cannot capture on {interface} in {}", namespace.name());
        let index = link_index(namespace, interface)?;
        let socket = namespace.run(|| open(filter)).attempt(what)?;
        let seen: Arc<Seen> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (into, stopped) = (seen.clone(), stop.clone());
        let reader = namespace.start(move || read(&socket, index, filter, &into, &stopped))?;
        Ok(Capture { seen, stop, reader: Some(reader) })
    }

    /// Stops, and returns every packet seen.
    pub fn stop(mut self) -> Vec<CapturedPacket> {
        self.join();
        std::mem::take(&mut self.seen.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until `is_enough` accepts the packets captured so far; false if `within` elapses first.
    pub fn wait_until(&self, within: Duration, is_enough: impl Fn(&[CapturedPacket]) -> bool) -> bool {
        let deadline = Instant::now() + within;
        let mut seen = self.seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !is_enough(&seen) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            seen = self.seen.1.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.join();
    }
}

fn open(filter: Filter) -> std::io::Result<Socket> {
    let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
    socket.attach_filter(&program(filter))?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_read_timeout(Some(DRAIN))?;
    Ok(socket)
}

// Classic BPF; with SOCK_DGRAM the filter sees the packet from its IP header on.
fn program(filter: Filter) -> Vec<SockFilter> {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let fields = [(12, filter.source), (16, filter.destination)];
    let mut program = Vec::new();
    for (offset, address) in fields.into_iter().filter_map(|(offset, address)| Some((offset, address?))) {
        program.push(SockFilter::new(LOAD_WORD, 0, 0, offset));
        program.push(SockFilter::new(JUMP_IF_EQUAL, 1, 0, u32::from(address)));
        program.push(SockFilter::new(RETURN, 0, 0, 0));
    }
    program.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    program
}

fn read(socket: &Socket, index: u32, filter: Filter, seen: &Seen, stop: &AtomicBool) {
    let mut buffer = [0; SNAPSHOT];
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
            Ok((length, Some(from))) => {
                if let Some(packet) = packet(&buffer[..length], &from, index, filter) {
                    seen.0.lock().unwrap_or_else(PoisonError::into_inner).push(packet);
                    seen.1.notify_all();
                }
            }
            Err(Errno::EAGAIN) if stop.load(Ordering::Relaxed) => return,
            // ENETDOWN: an interface of the namespace went down, which users of the lab do on purpose.
            Ok((_, None)) | Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => (),
            Err(_) => return,
        }
    }
}

fn packet(bytes: &[u8], from: &LinkAddr, index: u32, filter: Filter) -> Option<CapturedPacket> {
    let is_ipv4 = from.protocol() == ETH_P_IP.to_be() && bytes.len() >= 20;
    if !is_ipv4 || from.ifindex() != index as usize {
        return None;
    }
    let direction = match from.pkttype() {
        PACKET_OUTGOING => Direction::Transmitted,
        _ => Direction::Received,
    };
    let packet = CapturedPacket { direction, bytes: bytes.to_vec() };
    // Checked again, because packets may have arrived before the filter was attached.
    let wanted = filter.source.is_none_or(|source| source == packet.source())
        && filter.destination.is_none_or(|destination| destination == packet.destination());
    wanted.then_some(packet)
}
