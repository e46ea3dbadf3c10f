//! The peers of `tests/peers`, BPF programs that know the formats from the standards alone: compiled with clang, attached
//! with tc.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::Failed;
use lvs_tund::lab::{Host, Lab};

use crate::programs::{path, run};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");

/// Where GUE listens (IANA's port); `tests/peers/gue.lua` expects it there.
const GUE: u16 = 6080;

/// A format, as the outer header's family and the inner one's do not change it.
#[derive(Clone, Copy)]
pub struct Format {
    /// For messages.
    pub name: &'static str,
    /// The value of `FORMAT` in `tests/peers/outer.h`.
    pub define: &'static str,
    /// The bytes between the outer IP header and the inner packet.
    pub bytes: usize,
    pub has_checksum: bool,
}

const fn format(name: &'static str, define: &'static str, bytes: usize, has_checksum: bool) -> Format {
    Format { name, define, bytes, has_checksum }
}

/// IP in IP, whatever the families: IPIP, 6in4, 4in6 and 6in6.
pub const IP: Format = format("ip", "FORMAT_IP", 0, false);

pub const FORMATS: [Format; 9] = [
    IP,
    format("gre", "FORMAT_GRE", 4, false),
    format("gre with checksum", "FORMAT_GRE", 8, true),
    format("fou", "FORMAT_FOU", 8, false),
    format("fou with checksum", "FORMAT_FOU", 8, true),
    format("gue variant 0", "FORMAT_GUE0", 12, false),
    format("gue variant 0 with checksum", "FORMAT_GUE0", 12, true),
    format("gue variant 1", "FORMAT_GUE1", 8, false),
    format("gue variant 1 with checksum", "FORMAT_GUE1", 8, true),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// An address of the lab's subnet; an IPv6 address has the same last byte as the IPv4 address.
    pub fn address(self, last: u8) -> IpAddr {
        match self {
            Family::V4 => [172, 25, 3, last].into(),
            Family::V6 => [0xfd00, 0x25, 3, 0, 0, 0, 0, last.into()].into(),
        }
    }

    /// The length of the IP header.
    pub fn header(self) -> usize {
        match self {
            Family::V4 => 20,
            Family::V6 => 40,
        }
    }

    pub fn digit(self) -> char {
        match self {
            Family::V4 => '4',
            Family::V6 => '6',
        }
    }
}

/// What stands between a director and a real server.
#[derive(Clone, Copy)]
pub struct Tunnel {
    pub format: Format,
    pub outer: Family,
    pub inner: Family,
}

impl Tunnel {
    /// The bytes before the inner packet.
    pub fn overhead(self) -> usize {
        self.outer.header() + self.format.bytes
    }

    /// The destination port of its UDP header; that of FOU has one family behind each port.
    pub fn port(self) -> u16 {
        match (self.format.define, self.inner) {
            ("FORMAT_FOU", Family::V4) => 5554,
            ("FORMAT_FOU", Family::V6) => 5556,
            _ => GUE,
        }
    }

    /// `gre, 6 in 4`.
    pub fn name(self) -> String {
        format!("{}, {} in {}", self.format.name, self.inner.digit(), self.outer.digit())
    }
}

/// The two programs.
#[derive(Clone, Copy)]
pub enum Peer {
    Encapsulator,
    Decapsulator,
}

/// The last bytes of the addresses of the lab.
pub const CLIENT: u8 = 10;
pub const DIRECTOR: u8 = 1;
pub const REAL_SERVER: u8 = 2;
pub const VIP: u8 = 100;

/// Attaches a peer to what arrives on the host's interface, in the place of the one before.
///
/// # Errors
/// clang or tc fails; with their output.
pub fn attach(lab: &Lab, host: &Host, peer: Peer, tunnel: Tunnel) -> Result<(), Failed> {
    let object = compile(lab, peer, tunnel)?.display().to_string();
    let device = host.interface();
    run(host, "tc", &["qdisc", "replace", "dev", device, "clsact"])?;
    let filter = ["filter", "replace", "dev", device, "ingress", "prio", "1", "handle", "1"];
    let program = ["bpf", "direct-action", "object-file", &object, "section", "tc"];
    run(host, "tc", &[&filter[..], &program].concat())?;
    Ok(())
}

fn compile(lab: &Lab, peer: Peer, tunnel: Tunnel) -> Result<PathBuf, Failed> {
    let name = match peer {
        Peer::Encapsulator => "encapsulate",
        Peer::Decapsulator => "decapsulate",
    };
    let object = lab.directory().join(format!("{name}.o"));
    let of_outer = |last| bytes(tunnel.outer.address(last));
    let defines = [
        format!("-DFORMAT={}", tunnel.format.define),
        format!("-DOUTER={}", tunnel.outer.digit()),
        format!("-DINNER={}", tunnel.inner.digit()),
        format!("-DCHECKSUM={}", u8::from(tunnel.format.has_checksum)),
        format!("-DPORT={}", tunnel.port()),
        format!("-DDIRECTOR={}", of_outer(DIRECTOR)),
        format!("-DREAL_SERVER={}", of_outer(REAL_SERVER)),
        format!("-DVIP={}", bytes(tunnel.inner.address(VIP))),
        // asm/types.h, which is in a directory of the machine's architecture
        format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH),
    ];
    // No debug information: without it every libbpf takes the constants as they are.
    let output = Command::new("clang")
        .args(["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-target", "bpf"])
        .args(defines)
        .args(["-c", &format!("{SOURCES}/{name}.bpf.c"), "-o"])
        .arg(&object)
        .env("PATH", path())
        .output()?;
    match output.status.success() {
        true => Ok(object),
        false => Err(format!("clang, {}: {}", tunnel.name(), String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// `172,25,3,1`.
fn bytes(address: IpAddr) -> String {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    octets.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
}
