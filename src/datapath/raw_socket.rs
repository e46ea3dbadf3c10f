//! Raw IPv4 sockets: they send packets with a complete header and receive encapsulated packets, both in batches.
//!
//! The sender sets IP_HDRINCL, because the core writes the whole outer header; this also costs less per
//! packet, as the kernel takes no socket lock (raw_send_hdrinc()). The kernel neither fragments such a packet
//! nor completes its checksums.

mod filter;
mod receiver;

use std::io;
use std::mem;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::{BATCH, Exit, Outgoing, Transmit};
use crate::packet::Frame;

pub use receiver::{LossMeter, Receiver, Receivers};

/// Enough for bursts: a packet that does not fit is lost.
const BUFFER_BYTES: libc::c_int = 16 << 20;

#[expect(clippy::cast_possible_truncation, reason = "AF_INET is 2")]
const FAMILY: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;

/// The size of an address or of an option, as socket calls take it.
#[expect(clippy::cast_possible_truncation, reason = "no address or option has 4 GiB")]
const fn socket_length<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// A number of messages, at most [`BATCH`], as sendmmsg(2) and recvmmsg(2) take it.
fn message_count(count: usize) -> libc::c_uint {
    libc::c_uint::try_from(count).unwrap_or(0)
}

fn raw(protocol: i32) -> io::Result<Socket> {
    let kind = Type::RAW.nonblocking().cloexec();
    Socket::new(Domain::IPV4, kind, Some(Protocol::from(protocol)))
}

/// Sends packets that already carry their IP header.
pub struct Sender {
    socket: OwnedFd,
    addresses: Box<[libc::sockaddr_in]>,
    vectors: Box<[libc::iovec]>,
    messages: Box<[libc::mmsghdr]>,
}

// SAFETY: the raw pointers inside `vectors` and `messages` are set before each system call and not followed
// after it; the boxes they point to move with the sender.
unsafe impl Send for Sender {}

impl Sender {
    /// The kernel learns a path MTU from a router's ICMP only if a socket has the protocol of the quoted
    /// packet (raw_icmp_error(), raw_err()). IPPROTO_RAW never matches, so only the director acts on these
    /// errors, after checking that they quote its own packets.
    ///
    /// # Errors
    /// Without CAP_NET_RAW: `PermissionDenied`.
    pub fn new() -> io::Result<Sender> {
        let socket = raw(libc::IPPROTO_RAW)?;
        socket.set_header_included_v4(true)?;
        widen(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)?;
        // SAFETY: all three are plain C structs for which all-zero bytes are a valid value.
        let (address, vector, message): (libc::sockaddr_in, libc::iovec, libc::mmsghdr) =
            unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
        Ok(Sender {
            socket: socket.into(),
            addresses: vec![address; BATCH].into(),
            vectors: vec![vector; BATCH].into(),
            messages: vec![message; BATCH].into(),
        })
    }

    fn prepare(&mut self, slot: usize, packet: &mut [u8], to: std::net::Ipv4Addr) {
        self.addresses[slot].sin_family = FAMILY;
        self.addresses[slot].sin_addr.s_addr = u32::from_ne_bytes(to.octets());
        self.vectors[slot] = libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() };
        let header = &mut self.messages[slot].msg_hdr;
        header.msg_name = (&raw mut self.addresses[slot]).cast();
        header.msg_namelen = socket_length::<libc::sockaddr_in>();
        header.msg_iov = &raw mut self.vectors[slot];
        header.msg_iovlen = 1;
    }

    /// Sends the first `count` prepared messages. A failing message is reported and skipped: sendmmsg(2)
    /// stops there, and returns its error only if it is the first.
    fn flush(&mut self, count: usize, mut on_failure: impl FnMut(usize, io::Error)) {
        let mut first = 0;
        while first < count {
            let rest = &mut self.messages[first..count];
            // SAFETY: `rest` holds initialised headers whose name and iovec pointers were set by
            // `prepare` in this call of `transmit`; boxes and frames outlive the call.
            let sent = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    message_count(rest.len()),
                    libc::MSG_DONTWAIT,
                )
            };
            if sent > 0 {
                first += sent as usize;
                continue;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                on_failure(first, error);
                first += 1;
            }
        }
    }
}

impl Transmit for Sender {
    fn transmit(
        &mut self,
        frames: &mut [Frame],
        outgoing: &[Outgoing],
        on_failure: &mut dyn FnMut(usize, io::Error),
    ) {
        for (chunk_index, chunk) in outgoing.chunks(BATCH).enumerate() {
            let mut positions = [0; BATCH];
            let mut count = 0;
            for (offset, packet) in chunk.iter().enumerate() {
                let position = chunk_index * BATCH + offset;
                match packet.exit {
                    Exit::Network(IpAddr::V4(to)) => {
                        self.prepare(count, frames[packet.frame].packet_mut(), to);
                        positions[count] = position;
                        count += 1;
                    }
                    Exit::Network(IpAddr::V6(_)) | Exit::Host => {
                        on_failure(position, io::ErrorKind::Unsupported.into())
                    }
                }
            }
            self.flush(count, |slot, error| on_failure(positions[slot], error));
        }
    }
}

/// 0 if the call would have to wait, otherwise the error.
pub(super) fn nothing_or(error: io::Error) -> io::Result<usize> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
        _ => Err(error),
    }
}

/// Sets a buffer beyond the system's limit if permitted (CAP_NET_ADMIN), otherwise up to it.
fn widen(socket: &Socket, forced: i32, limited: i32) -> io::Result<()> {
    let set = |option: i32| {
        let bytes = BUFFER_BYTES;
        // SAFETY: the option takes an int; pointer and length describe `bytes`.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const bytes).cast(),
                socket_length::<libc::c_int>(),
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    set(forced).or_else(|_| set(limited))
}
