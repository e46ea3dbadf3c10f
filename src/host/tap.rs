//! Packet sockets that keep what concerns a VIP, as much as their small buffers hold; they are read with the ticks.

use std::collections::HashMap;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use nix::sys::socket::bind;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::arp;
use super::change::Device;
use super::error::HostError;

/// Closing a packet socket takes some milliseconds in the kernel, and a daemon ends within a second.
const DEVICES_MAX: usize = 16;

/// A filter has at most 4096 instructions (BPF_MAXINSNS of linux/bpf_common.h), two for each VIP.
const VIPS_MAX: usize = 2000;

/// Bytes; the kernel drops what does not fit.
const BUFFER: usize = 64 << 10;

/// Every packet that no device has merged from several.
const SNAPSHOT: u32 = 2048;

/// What the sockets keep.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// Of linux/if_ether.h.
    pub protocol: u16,
    /// The greatest packet type of linux/if_packet.h; PACKET_HOST is 0, PACKET_BROADCAST 1, PACKET_MULTICAST 2. Greater
    /// ones are frames to other hosts, of another VLAN, or sent by this host.
    pub packet_type_max: u32,
    /// Where the VIP is, in bytes behind the Ethernet header.
    pub offset: u32,
}

/// The sockets, by device.
#[derive(Debug)]
pub(super) struct Taps {
    kept: Kept,
    sockets: HashMap<Device, Socket>,
    vips: Vec<Ipv4Addr>,
}

impl Taps {
    pub(super) fn new(kept: Kept) -> Taps {
        Taps { kept, sockets: HashMap::new(), vips: Vec::new() }
    }

    /// Looks at these devices, for these VIPs. A device that cannot be looked at is omitted.
    pub(super) fn follow(&mut self, devices: &[Device], vips: impl Iterator<Item = Ipv4Addr>) {
        let vips: Vec<Ipv4Addr> = vips.take(VIPS_MAX).collect();
        let wanted = if vips.is_empty() { &[][..] } else { &devices[..devices.len().min(DEVICES_MAX)] };
        self.sockets.retain(|device, _| wanted.contains(device));
        let program = program(self.kept, &vips);
        if self.vips != vips {
            self.sockets.retain(|_, socket| socket.attach_filter(&program).is_ok());
            self.vips = vips;
        }
        for device in wanted {
            if !self.sockets.contains_key(device) {
                match open(&device.name, self.kept.protocol, &program) {
                    Ok(socket) => drop(self.sockets.insert(device.clone(), socket)),
                    Err(error) => {
                        tracing::debug!("host: cannot look for packets on {}: {error}", device.name)
                    }
                }
            }
        }
    }

    /// At most so many packets of each device that have arrived since the last call, and where.
    pub(super) fn read(&mut self, packets_max: usize) -> Vec<(Device, Vec<u8>)> {
        let mut found = Vec::new();
        for (device, socket) in &self.sockets {
            let mut buffer = [0; SNAPSHOT as usize];
            for _ in 0..packets_max {
                let Ok(length) = (&mut &*socket).read(&mut buffer) else { break };
                found.push((device.clone(), buffer[..length].to_vec()));
            }
        }
        found
    }
}

fn open(interface: &str, protocol: u16, program: &[SockFilter]) -> Result<Socket, HostError> {
    let failed =
        |error: std::io::Error| HostError::from_io(format!("open a packet socket on {interface}"), &error);
    let (link, _) = arp::link_address(interface)?;
    let protocol = Protocol::from(i32::from(protocol.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).map_err(failed)?;
    socket.attach_filter(program).map_err(failed)?;
    socket.set_recv_buffer_size(BUFFER).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    bind(socket.as_raw_fd(), &link).map_err(|errno| failed(errno.into()))?;
    // It received from every interface before it was bound.
    while (&mut &socket).read(&mut [0; 1]).is_ok() {}
    Ok(socket)
}

/// Keeps packets that have one of these VIPs in its place.
fn program(kept: Kept, vips: &[Ipv4Addr]) -> Vec<SockFilter> {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const JUMP_IF_GREATER: u16 = 0x25;
    const RETURN: u16 = 0x06;
    /// SKF_AD_OFF + SKF_AD_PKTTYPE of linux/filter.h.
    const PACKET_TYPE: u32 = 0xffff_f004;
    let answer = |bytes: u32| SockFilter::new(RETURN, 0, 0, bytes);
    let mut program = vec![
        SockFilter::new(LOAD_WORD, 0, 0, PACKET_TYPE),
        SockFilter::new(JUMP_IF_GREATER, 0, 1, kept.packet_type_max),
        answer(0),
        // The filter of a SOCK_DGRAM socket begins behind the Ethernet header.
        SockFilter::new(LOAD_WORD, 0, 0, kept.offset),
    ];
    for vip in vips {
        program.push(SockFilter::new(JUMP_IF_EQUAL, 0, 1, u32::from(*vip)));
        program.push(answer(SNAPSHOT));
    }
    program.push(answer(0));
    program
}
