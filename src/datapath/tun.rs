//! The TUN device: one queue per worker; each read and write is one packet after a virtio header.
//!
//! ```text
//! ┌───────┬──────────┬─────────┬──────────┬────────────┬─────────────┬───────────┐
//! │ flags │ gso_type │ hdr_len │ gso_size │ csum_start │ csum_offset │ IP packet │
//! │ 1     │ 1        │ 2       │ 2        │ 2          │ 2           │           │
//! └───────┴──────────┴─────────┴──────────┴────────────┴─────────────┴───────────┘
//! ```
//! tun-rs creates the device; its batch functions are not used, because without offloads they cost more
//! per packet than a plain read(2). The director requests no offload: the kernel delivers whole packets of at most the device's MTU
//! with complete checksums. On a real server the header carries what a raw socket lost: see [`crate::packet::Offload`].

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

use tun_rs::{DeviceBuilder, SyncDevice, VIRTIO_NET_HDR_LEN, VirtioNetHdr};

use super::raw_socket::nothing_or;
use super::{Capture, Outgoing, Transmit};
use crate::packet::frame::{PartialChecksum, SegmentKind, Segments};
use crate::packet::{Frame, Offload};

/// The default of 500 (TUN_READQ_SIZE of drivers/net/tun.c) silently drops packets in a burst.
const QUEUE_PACKETS: u32 = 10_000;

const FLAG_NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP_V4: u8 = 1;
const GSO_TCP_V6: u8 = 4;
const GSO_UDP: u8 = 5;
const GSO_ECN: u8 = 0x80;

const DRIVER: &str = "/dev/net/tun";

/// A TUN device of this process and the exclusive right to its name. It disappears, with its routes and
/// addresses, when it and its queues are dropped.
pub struct Tun {
    device: SyncDevice,
    name: String,
    mtu: u16,
    /// Second descriptors of the queues, for [`Tun::recreate`].
    queues: Vec<OwnedFd>,
    /// Held by binding it: an abstract address belongs to one network namespace and disappears with the
    /// process, so no stale lock can remain.
    _lock: UnixListener,
}

/// Why the device could not be created.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// Another process of this network namespace has bound [`lock_address`].
    #[error("TUN device {0} is in use by another lvs-tund; stop it, or choose another name with `tun`")]
    Locked(String),
    /// A link with this name that no lvs-tund has locked.
    #[error(
        "interface {0} already exists; remove it (`ip link delete {0}`) or choose another name with `tun`"
    )]
    Exists(String),
    /// ENOENT, or no device node.
    #[error("/dev/net/tun is missing; load the module (`modprobe tun`), or pass the device to the container")]
    NoDriver,
    /// EPERM or EACCES.
    #[error("no permission to create a TUN device; run as root or with CAP_NET_ADMIN and CAP_NET_RAW")]
    Permission,
    /// Any other error of the kernel.
    #[error("TUN device {name}: {cause}")]
    Other {
        /// As requested, even if the device does not exist.
        name: String,
        /// Of the system call that failed.
        cause: io::Error,
    },
}

impl Tun {
    /// Creates the device, not yet up, with `queues` queues.
    ///
    /// # Errors
    /// [`TunError`] names the cause and the remedy.
    pub fn create(name: &str, mtu: u16, queues: usize) -> Result<(Tun, Vec<Queue>), TunError> {
        let other = |cause: io::Error| TunError::Other { name: name.to_owned(), cause };
        check_driver()?;
        let lock = lock(name)?;
        check_free(name)?;
        let device = DeviceBuilder::new()
            .name(name)
            .mtu(mtu)
            .enable(false)
            .with(|builder| {
                builder.offload(true).multi_queue(true);
            })
            .build_sync()
            .map_err(|cause| match cause.kind() {
                io::ErrorKind::PermissionDenied => TunError::Permission,
                io::ErrorKind::NotFound => TunError::NoDriver,
                _ => other(cause),
            })?;
        lengthen_queue(&device).map_err(other)?;
        let mut fds = vec![device.as_fd().try_clone_to_owned().map_err(other)?];
        for _ in 1..queues {
            let queue = device.try_clone().map_err(other)?;
            // SAFETY: `into_raw_fd` releases the descriptor, so this is its only owner.
            fds.push(unsafe { OwnedFd::from_raw_fd(queue.into_raw_fd()) });
        }
        let queues = fds.into_iter().map(Queue::new).collect::<io::Result<Vec<_>>>().map_err(other)?;
        let kept =
            queues.iter().map(|queue| queue.fd.try_clone()).collect::<io::Result<_>>().map_err(other)?;
        Ok((Tun { device, name: name.to_owned(), mtu, queues: kept, _lock: lock }, queues))
    }

    /// As configured.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name that the device has now: an administrator may have renamed it. `None` if it was deleted.
    ///
    /// # Errors
    /// The ioctl fails for another reason.
    pub fn present_name(&self) -> io::Result<Option<String>> {
        let Some(queue) = self.queues.first() else { return Ok(None) };
        match interface_of(queue) {
            Ok(found) => Ok(Some(name_in(&found))),
            Err(cause) if is_detached(&cause) => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// Creates the device again after it was deleted, not yet up. The descriptors of its queues stay the same: a
    /// worker that waits on them continues.
    ///
    /// # Errors
    /// [`TunError::Exists`] if another link has its name now, otherwise the error of the system call.
    pub fn recreate(&self) -> Result<(), TunError> {
        let other = |cause: io::Error| TunError::Other { name: self.name.clone(), cause };
        if nix::net::if_::if_nametoindex(self.name.as_str()).is_ok() {
            return Err(TunError::Exists(self.name.clone()));
        }
        for (number, queue) in self.queues.iter().enumerate() {
            attach(queue, &self.name, number == 0).map_err(other)?;
            request_no_offload(queue).map_err(other)?;
        }
        self.device.set_mtu(self.mtu).map_err(other)?;
        lengthen_queue(&self.device).map_err(other)
    }

    /// Brings the device up.
    ///
    /// # Errors
    /// The ioctl fails.
    pub fn up(&self) -> io::Result<()> {
        self.device.enabled(true)
    }
}

/// The abstract address that the daemon with this device listens on.
///
/// # Errors
/// The name is too long.
pub fn lock_address(name: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("lvs-tund/tun/{name}"))
}

/// Longer than the default. SIOCSIFTXQLEN needs CAP_NET_ADMIN over the whole machine (dev_ioctl()). In a user namespace
/// the device keeps its default, which drops packets earlier but works otherwise.
fn lengthen_queue(device: &SyncDevice) -> io::Result<()> {
    match device.set_tx_queue_len(QUEUE_PACKETS) {
        Err(cause) if cause.kind() != io::ErrorKind::PermissionDenied => Err(cause),
        _ => Ok(()),
    }
}

/// Whether a process of this network namespace has the device.
pub fn is_in_use(name: &str) -> bool {
    lock_address(name).is_ok_and(|address| UnixStream::connect_addr(&address).is_ok())
}

/// Whether the device could be created, as far as that can be known without trying.
///
/// # Errors
/// As [`Tun::create`].
pub fn check(name: &str) -> Result<(), TunError> {
    check_driver().and_then(|()| check_free(name))
}

fn check_driver() -> Result<(), TunError> {
    // tun-rs would create the node itself, but that is for the operator to decide.
    if Path::new(DRIVER).exists() { Ok(()) } else { Err(TunError::NoDriver) }
}

fn check_free(name: &str) -> Result<(), TunError> {
    match nix::net::if_::if_nametoindex(name) {
        Ok(_) => Err(TunError::Exists(name.to_owned())),
        Err(_) => Ok(()),
    }
}

fn lock(name: &str) -> Result<UnixListener, TunError> {
    let other = |cause: io::Error| TunError::Other { name: name.to_owned(), cause };
    let address = lock_address(name).map_err(other)?;
    UnixListener::bind_addr(&address).map_err(|cause| match cause.kind() {
        io::ErrorKind::AddrInUse => TunError::Locked(name.to_owned()),
        _ => other(cause),
    })
}

/// The flags of every queue.
const FLAGS: libc::c_int = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;

/// The kernel's answer on a queue whose device was deleted (tun_chr_read_iter(), __tun_chr_ioctl()).
fn is_detached(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

/// TUNGETIFF: name and flags of the device that a queue belongs to.
fn interface_of(fd: &OwnedFd) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq is a plain C struct for which all-zero bytes are a valid value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // SAFETY: TUNGETIFF fills the ifreq it is given; `fd` is open.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(request)
}

fn name_in(request: &libc::ifreq) -> String {
    let bytes = request.ifr_name.iter().take_while(|byte| **byte != 0);
    String::from_utf8_lossy(&bytes.map(|byte| byte.cast_unsigned()).collect::<Vec<u8>>()).into_owned()
}

/// TUNSETIFF on a queue without a device; the first one creates the device and must not find another program's.
fn attach(fd: &OwnedFd, name: &str, is_first: bool) -> io::Result<()> {
    // SAFETY: as in `interface_of`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays 0.
    let places = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
    places.zip(name.bytes()).for_each(|(place, byte)| *place = byte.cast_signed());
    let flags = FLAGS | if is_first { libc::IFF_TUN_EXCL } else { 0 };
    // The kernel reads the 16 bits.
    request.ifr_ifru.ifru_flags = (flags & 0xffff) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes the ifreq it is given; `fd` is open.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn request_no_offload(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its flags by value; 0 requests none.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, 0 as libc::c_ulong) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// One queue: the kernel assigns each flow to one of them.
pub struct Queue {
    fd: OwnedFd,
}

impl Queue {
    /// Checks the flags that the kernel granted (TUNGETIFF), because tun-rs does not.
    fn new(fd: OwnedFd) -> io::Result<Queue> {
        let request = interface_of(&fd)?;
        // SAFETY: TUNGETIFF wrote the flags member of the union.
        let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
        if flags & FLAGS != FLAGS {
            return Err(io::Error::other(format!("the kernel granted flags {flags:#x}, not {FLAGS:#x}")));
        }
        // A blocking read would hold back the packets read before it in the same batch.
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        request_no_offload(&fd)?;
        Ok(Queue { fd })
    }

    /// A second descriptor of the same queue: captures on one, sends on the other.
    ///
    /// # Errors
    /// dup(2) fails.
    pub fn try_clone(&self) -> io::Result<Queue> {
        Ok(Queue { fd: self.fd.try_clone()? })
    }
}

impl Capture for Queue {
    fn capture(&mut self, frames: &mut [Frame]) -> io::Result<usize> {
        for (index, frame) in frames.iter_mut().enumerate() {
            let space = frame.space_behind(VIRTIO_NET_HDR_LEN);
            // SAFETY: pointer and length describe `space`, which outlives the call.
            let read = unsafe { libc::read(self.fd.as_raw_fd(), space.as_mut_ptr().cast(), space.len()) };
            if read < 0 {
                let error = io::Error::last_os_error();
                return if is_detached(&error) { Ok(index) } else { nothing_or(error).map(|_| index) };
            }
            let read = read as usize;
            let offload = VirtioNetHdr::decode(&space[..read.min(VIRTIO_NET_HDR_LEN)])
                .map(|header| offload_of(&header))
                .unwrap_or_default();
            frame.filled(read.saturating_sub(VIRTIO_NET_HDR_LEN), offload);
        }
        Ok(frames.len())
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn may_return(&self) -> bool {
        true
    }
}

impl Transmit for Queue {
    fn transmit(
        &mut self,
        frames: &mut [Frame],
        outgoing: &[Outgoing],
        on_failure: &mut dyn FnMut(usize, io::Error),
    ) {
        for (position, packet) in outgoing.iter().enumerate() {
            if let Err(error) = self.write(&mut frames[packet.frame]) {
                on_failure(position, error);
            }
        }
    }
}

impl Queue {
    fn write(&mut self, frame: &mut Frame) -> io::Result<()> {
        let header = header_of(&frame.offload);
        let bytes = frame.prepend(VIRTIO_NET_HDR_LEN).ok_or(io::ErrorKind::OutOfMemory)?;
        header.encode(bytes)?;
        // SAFETY: pointer and length describe `bytes`, which outlives the call.
        let written = unsafe { libc::write(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
        frame.strip_front(VIRTIO_NET_HDR_LEN);
        if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn offload_of(header: &VirtioNetHdr) -> Offload {
    let checksum = (header.flags & FLAG_NEEDS_CHECKSUM != 0).then(|| PartialChecksum {
        start: header.csum_start,
        field: header.csum_start.saturating_add(header.csum_offset),
    });
    let kind = match header.gso_type & !GSO_ECN {
        GSO_TCP_V4 => Some(SegmentKind::TcpV4),
        GSO_TCP_V6 => Some(SegmentKind::TcpV6),
        GSO_UDP => Some(SegmentKind::Udp),
        _ => None,
    };
    let segments = kind.map(|kind| Segments { kind, size: header.gso_size, header_length: header.hdr_len });
    Offload { checksum, segments }
}

fn header_of(offload: &Offload) -> VirtioNetHdr {
    let (mut flags, mut csum_start, mut csum_offset) = (0, 0, 0);
    if let Some(PartialChecksum { start, field }) = offload.checksum {
        (flags, csum_start, csum_offset) = (FLAG_NEEDS_CHECKSUM, start, field - start);
    }
    let (mut gso_type, mut hdr_len, mut gso_size) = (GSO_NONE, 0, 0);
    if let Some(segments) = offload.segments {
        gso_type = match segments.kind {
            SegmentKind::TcpV4 => GSO_TCP_V4,
            SegmentKind::TcpV6 => GSO_TCP_V6,
            SegmentKind::Udp => GSO_UDP,
        };
        (hdr_len, gso_size) = (segments.header_length, segments.size);
    }
    VirtioNetHdr { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_virtio_header_describes_the_offload_of_the_frame() {
        let offload = Offload {
            checksum: Some(PartialChecksum { start: 20, field: 36 }),
            segments: Some(Segments { kind: SegmentKind::TcpV4, size: 1440, header_length: 52 }),
        };
        for offload in [offload, Offload::default()] {
            assert_eq!(offload_of(&header_of(&offload)), offload);
        }
        let mut bytes = [0u8; VIRTIO_NET_HDR_LEN];
        header_of(&offload).encode(&mut bytes).unwrap();
        assert_eq!(bytes[..2], [1, 1]);
        assert_eq!(u16::from_ne_bytes([bytes[8], bytes[9]]), 16);
    }
}
