//! Packets for VIPs that arrive on interfaces where nothing captures them: noticed, so that they can be named.
//!
//! A packet socket on each of those interfaces keeps the packets for a VIP, as many as its small buffer holds; it is read
//! with the ticks. Interfaces on which the packets are captured have no socket and bear no cost.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use nix::sys::socket::bind;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::arp;
use super::error::HostError;

/// Closing a packet socket takes some milliseconds in the kernel, and a daemon ends within a second.
const INTERFACES_MAX: usize = 16;

/// A filter has at most 4096 instructions (BPF_MAXINSNS of linux/bpf_common.h), two for each VIP.
const VIPS_MAX: usize = 2000;

/// Packets read of each interface with each tick: more than the buffer holds, so that none is old.
const PACKETS_MAX: usize = 512;

/// Bytes; the kernel drops what does not fit.
const BUFFER: usize = 64 << 10;

/// Every packet that no device has merged from several.
const SNAPSHOT: u32 = 2048;

/// linux/if_ether.h.
const ETH_P_IP: u16 = 0x0800;

/// A packet for a VIP, as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Where it arrived.
    pub interface: String,
    /// From the IP header on.
    pub packet: Vec<u8>,
}

/// The sockets, by interface.
#[derive(Debug, Default)]
pub(super) struct Strays {
    taps: BTreeMap<String, Socket>,
    vips: Vec<Ipv4Addr>,
}

impl Strays {
    /// Looks at these interfaces, for these VIPs. An interface that cannot be looked at is omitted.
    pub(super) fn follow(&mut self, interfaces: &[String], vips: impl Iterator<Item = Ipv4Addr>) {
        let vips: Vec<Ipv4Addr> = vips.take(VIPS_MAX).collect();
        let wanted =
            if vips.is_empty() { &[][..] } else { &interfaces[..interfaces.len().min(INTERFACES_MAX)] };
        self.taps.retain(|name, _| wanted.contains(name));
        let program = program(&vips);
        if self.vips != vips {
            self.taps.retain(|_, tap| tap.attach_filter(&program).is_ok());
            self.vips = vips;
        }
        for name in wanted {
            if !self.taps.contains_key(name) {
                match open(name, &program) {
                    Ok(tap) => drop(self.taps.insert(name.clone(), tap)),
                    Err(error) => tracing::debug!("host: cannot look for packets on {name}: {error}"),
                }
            }
        }
    }

    /// The packets that have arrived since the last call, some of many.
    pub(super) fn read(&mut self) -> Vec<Stray> {
        let mut found = Vec::new();
        for (name, tap) in &self.taps {
            let mut buffer = [0; SNAPSHOT as usize];
            for _ in 0..PACKETS_MAX {
                let Ok(length) = (&mut &*tap).read(&mut buffer) else { break };
                found.push(Stray { interface: name.clone(), packet: buffer[..length].to_vec() });
            }
        }
        found
    }
}

fn open(interface: &str, program: &[SockFilter]) -> Result<Socket, HostError> {
    let failed =
        |error: std::io::Error| HostError::from_io(format!("open a packet socket on {interface}"), &error);
    let (link, _) = arp::link_address(interface)?;
    let protocol = Protocol::from(i32::from(ETH_P_IP.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).map_err(failed)?;
    socket.attach_filter(program).map_err(failed)?;
    socket.set_recv_buffer_size(BUFFER).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    bind(socket.as_raw_fd(), &link).map_err(|errno| failed(errno.into()))?;
    // It received from every interface before it was bound.
    while (&mut &socket).read(&mut [0; 1]).is_ok() {}
    Ok(socket)
}

/// Keeps packets to this host's Ethernet address with one of these destinations.
fn program(vips: &[Ipv4Addr]) -> Vec<SockFilter> {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// SKF_AD_OFF + SKF_AD_PKTTYPE of linux/filter.h; PACKET_HOST is 0.
    const PACKET_TYPE: u32 = 0xffff_f004;
    /// In the IP header, where the filter of a SOCK_DGRAM socket begins.
    const DESTINATION: u32 = 16;
    let answer = |bytes: u32| SockFilter::new(RETURN, 0, 0, bytes);
    let mut program = vec![
        SockFilter::new(LOAD_WORD, 0, 0, PACKET_TYPE),
        SockFilter::new(JUMP_IF_EQUAL, 1, 0, 0),
        answer(0),
        SockFilter::new(LOAD_WORD, 0, 0, DESTINATION),
    ];
    for vip in vips {
        program.push(SockFilter::new(JUMP_IF_EQUAL, 0, 1, u32::from(*vip)));
        program.push(answer(SNAPSHOT));
    }
    program.push(answer(0));
    program
}
