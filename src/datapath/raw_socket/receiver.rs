//! The receiving half: which packets the kernel hands over, and how several kinds arrive as one capture.

use std::collections::BTreeSet;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use socket2::{Domain, Protocol, Socket, Type};

use super::super::{BATCH, Capture};
use super::{filter, message_count, nothing_or, raw, socket_length, widen};
use crate::packet::{Carrier, Frame, Offload};

/// Receives whole IP packets of one kind that are addressed to this host.
pub struct Receiver {
    socket: OwnedFd,
    /// Takes part in the kernel's delivery and keeps nothing. A raw socket whose buffer is full does not count
    /// as a receiver (raw_v4_input()), so without this one the kernel would answer "protocol unreachable" just
    /// when the load is highest. For UDP no raw socket counts (__udp4_lib_rcv()), and this one is bound to the
    /// port.
    _witness: Option<Socket>,
    vectors: Box<[libc::iovec]>,
    messages: Box<[libc::mmsghdr]>,
}

// SAFETY: as for `Sender`.
unsafe impl Send for Receiver {}

impl Receiver {
    /// Receives what this carrier brings.
    ///
    /// # Errors
    /// Without CAP_NET_RAW: `PermissionDenied`.
    pub fn new(carrier: Carrier) -> io::Result<Receiver> {
        let socket = raw(carrier.protocol().into())?;
        let witness = match carrier {
            Carrier::Protocol(number) => raw(number.into())?,
            Carrier::UdpPort(port) => {
                socket.attach_filter(&filter::datagrams_to(port))?;
                bound(port)?
            }
        };
        witness.attach_filter(&filter::KEEP_NOTHING)?;
        Receiver::of(socket, Some(witness))
    }

    /// Receives ICMP errors about packets of these carriers that this host has sent. The kernel handles them
    /// too.
    ///
    /// # Errors
    /// Without CAP_NET_RAW: `PermissionDenied`.
    pub fn icmp_errors_about(carriers: impl IntoIterator<Item = Carrier>) -> io::Result<Receiver> {
        let protocols: BTreeSet<u8> = carriers.into_iter().map(Carrier::protocol).collect();
        let socket = raw(libc::IPPROTO_ICMP)?;
        socket.attach_filter(&filter::errors_about(&protocols))?;
        Receiver::of(socket, None)
    }

    fn of(socket: Socket, witness: Option<Socket>) -> io::Result<Receiver> {
        widen(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF)?;
        // SAFETY: plain C structs for which all-zero bytes are a valid value.
        let (vector, message): (libc::iovec, libc::mmsghdr) = unsafe { (mem::zeroed(), mem::zeroed()) };
        Ok(Receiver {
            socket: socket.into(),
            _witness: witness,
            vectors: vec![vector; BATCH].into(),
            messages: vec![message; BATCH].into(),
        })
    }
}

/// Reads what one receiver has lost, while a worker receives.
pub struct LossMeter(OwnedFd);

impl LossMeter {
    /// Packets that found the receive buffer full since the socket was opened; 0 before Linux 4.12.
    pub fn read(&self) -> u64 {
        // linux/sock_diag.h: SK_MEMINFO_DROPS.
        const DROPS: usize = 8;
        let mut values = [0u32; DROPS + 1];
        let mut length = socket_length::<[u32; DROPS + 1]>();
        // SAFETY: pointer and length describe `values`, which outlives the call; the kernel writes at most `length` bytes.
        let read = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                values.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if read < 0 { 0 } else { values[DROPS].into() }
    }
}

impl Receiver {
    /// # Errors
    /// dup(2) fails.
    pub fn loss_meter(&self) -> io::Result<LossMeter> {
        Ok(LossMeter(self.socket.try_clone()?))
    }
}

impl Receivers {
    /// One for each receiver.
    ///
    /// # Errors
    /// dup(2) fails.
    pub fn loss_meters(&self) -> io::Result<Vec<LossMeter>> {
        self.receivers.iter().map(Receiver::loss_meter).collect()
    }
}

impl Capture for Receiver {
    fn capture(&mut self, frames: &mut [Frame]) -> io::Result<usize> {
        let count = frames.len().min(BATCH);
        for (slot, frame) in frames[..count].iter_mut().enumerate() {
            let space = frame.space();
            self.vectors[slot] = libc::iovec { iov_base: space.as_mut_ptr().cast(), iov_len: space.len() };
            let header = &mut self.messages[slot].msg_hdr;
            header.msg_iov = &raw mut self.vectors[slot];
            header.msg_iovlen = 1;
            header.msg_flags = 0;
        }
        let timeout = std::ptr::null_mut();
        // SAFETY: `count` headers were set above to buffers inside `frames`, which outlive the call.
        let received = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                message_count(count),
                libc::MSG_DONTWAIT,
                timeout,
            )
        };
        if received < 0 {
            return nothing_or(io::Error::last_os_error());
        }
        for (frame, message) in frames.iter_mut().zip(&self.messages[..received as usize]) {
            frame.filled(message.msg_len as usize, Offload::default());
        }
        Ok(received as usize)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}

/// A UDP socket with this port on every address.
fn bound(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    Ok(socket)
}

/// Several receivers as one capture.
pub struct Receivers {
    receivers: Box<[Receiver]>,
    /// Readable while any of them is.
    any: Epoll,
    /// The one that is read first: each gets its turn, so that a flood of one kind does not keep out the others.
    first: usize,
}

impl Receivers {
    /// One receiver for each carrier.
    ///
    /// # Errors
    /// Without CAP_NET_RAW: `PermissionDenied`.
    pub fn new(carriers: impl IntoIterator<Item = Carrier>) -> io::Result<Receivers> {
        let receivers = carriers.into_iter().map(Receiver::new).collect::<io::Result<Box<[Receiver]>>>()?;
        let any = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for receiver in &receivers {
            any.add(&receiver.socket, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        }
        Ok(Receivers { receivers, any, first: 0 })
    }
}

impl Capture for Receivers {
    fn capture(&mut self, frames: &mut [Frame]) -> io::Result<usize> {
        let (before, from_first) = self.receivers.split_at_mut(self.first);
        let mut count = 0;
        for receiver in from_first.iter_mut().chain(before) {
            count += receiver.capture(&mut frames[count..])?;
        }
        self.first = (self.first + 1) % self.receivers.len().max(1);
        Ok(count)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.any.0.as_fd())
    }
}
