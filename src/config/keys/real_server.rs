//! `[[virtual_service.real_server]]`.

use std::net::IpAddr;

use crate::config::key::keys;
use crate::config::kinds::{Address, Bytes, Member, Name, Number, NumberOr, Required};
use crate::director::cluster::RealServerConfig;
use crate::encapsulation::{self, ENCAPSULATIONS, OVERHEAD_MAX};

/// ipvsadm(8): `-w`, 0 to 65535.
const WEIGHT_MAX: i64 = 65_535;
const THRESHOLD_MAX: i64 = i32::MAX as i64;

/// RFC 791: every host forwards a packet of 68 bytes.
const INNER_MIN: u16 = 68;

const PATH_MTU: Bytes = NumberOr {
    range: (INNER_MIN + OVERHEAD_MAX) as i64..=65_535,
    words: &[("auto", None)],
    number: |bytes| u16::try_from(bytes).ok(),
    of: |bytes| bytes.map(Into::into),
    expected: "\"auto\" or a number of bytes from FIRST to LAST",
};

const ENCAPSULATION: Member = Member(|| ENCAPSULATIONS.iter().map(|row| row.name).collect());

keys! {
    REAL_SERVER_KEYS of RealServerConfig {
        name, rip, weight, upper_threshold, lower_threshold, path_mtu, encapsulation
    }
    asked "A real server to be; what is left out is as in a file that leaves it out." RealServerSpec {}
    edited "What is to change of a real server; what is left out stays." RealServerEdit
    shown "Every key of a real server, as configured." RealServerKeys;

    /// The real server's own address.
    fixed rip "rip" [IpAddr] in rip [], Required(Address, "\"172.25.3.2\""), |server, _| server.rip, Live;
    /// Label in metrics and logs; left out: the RIP.
    optional name "name" [String] in name [], Name, |server, _| server.rip.to_string(), Live;
    /// Share of new connections as configured; 0 is quiesced; left out: 1. Setting it ends a drain.
    optional weight "weight" [u32] in weight [], Number::<u32>::new(0..=WEIGHT_MAX), |_, _| 1, Live;
    /// From this many connections on it gets no new ones; 0: no limit.
    optional upper_threshold "upper_threshold" [u32] in upper_threshold [],
        Number::<u32>::new(0..=THRESHOLD_MAX), |_, _| 0, Live;
    /// Below this many it gets new ones again; 0: three quarters of the upper one.
    optional lower_threshold "lower_threshold" [u32] in lower_threshold [],
        Number::<u32>::new(0..=THRESHOLD_MAX), |_, _| 0, Live;
    /// Largest outer packet in bytes; `null`: what the host's routes say.
    nullable path_mtu "path_mtu" [u16] in path_mtu [], PATH_MTU, |_, _| None, Live;
    /// How packets are wrapped on their way to it; left out: "ipip".
    optional encapsulation "encapsulation" [String] in encapsulation [],
        ENCAPSULATION, |_, _| encapsulation::DEFAULT.name, Live;
}

/// What is wrong with keys that are right by themselves: the key, and a sentence.
pub fn check(server: &RealServerConfig) -> Result<(), (&'static str, String)> {
    let (upper, lower) = (server.upper_threshold, server.lower_threshold);
    if lower <= upper {
        return Ok(());
    }
    let message = format!("lower_threshold = {lower}: expected at most upper_threshold, which is {upper}");
    Err(("lower_threshold", message))
}

/// Keys of the file, and others set by hand, may be impossible together: then the file's are in force.
pub fn reconcile(file: &RealServerConfig, next: &mut RealServerConfig) {
    if next.lower_threshold > next.upper_threshold {
        (next.upper_threshold, next.lower_threshold) = (file.upper_threshold, file.lower_threshold);
    }
}
