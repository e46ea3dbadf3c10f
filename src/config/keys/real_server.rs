//! The keys of `[[virtual_service.real_server]]`.

use std::net::IpAddr;

use super::check::{OwnChecks, Written as Checks};
use crate::config::key::keys;
use crate::config::kinds::{Bytes, FamilyMember, Flag, LABEL, Number, NumberOr, Required, RipAddress};
use crate::director::cluster::RealServerConfig;
use crate::encapsulation::{self, ENCAPSULATIONS, OVERHEAD_MAX};

/// ipvsadm 1.31 accepts a 32-bit number, and the kernel keeps the weight as an int (struct ip_vs_dest).
pub const WEIGHT_MAX: u32 = i32::MAX as u32;
const THRESHOLD_MAX: i64 = i32::MAX as i64;

/// RFC 791 §3.2: every link carries 68 bytes.
const INNER_MIN: u16 = 68;

const PATH_MTU: Bytes = NumberOr {
    range: (INNER_MIN + OVERHEAD_MAX) as i64..=65_535,
    words: &[("auto", None)],
    number: |bytes| u16::try_from(bytes).ok(),
    of: |bytes| bytes.map(Into::into),
    expected: "\"auto\" or a number of bytes from FIRST to LAST",
};

const ENCAPSULATION: FamilyMember<encapsulation::Row> =
    FamilyMember { rows: ENCAPSULATIONS, name: |row| row.name };

keys! {
    REAL_SERVER_KEYS of RealServerConfig {
        name, rip, weight, upper_threshold, lower_threshold, path_mtu, encapsulation, checks, is_sorry
    }
    spec "A new real server; absent keys have the same defaults as in a file." RealServerSpec {}
    edit "Changes to a real server; absent keys keep their values." RealServerEdit
    view "Every key of a real server, as configured." RealServerKeys;

    /// The real server's own address.
    fixed rip "rip" [IpAddr] in rip [], Required(RipAddress, "\"172.25.3.2\""), |server, _| server.rip, Live;
    /// Label in metrics and logs; default: the RIP.
    optional name "name" [String] in name [], LABEL, |server, _| server.rip.to_string(), Live;
    /// Configured share of new connections; 0: quiesced; default: 1. Setting it ends a drain.
    optional weight "weight" [u32] in weight [], Number::<u32>::new(0..=WEIGHT_MAX as i64), |_, _| 1, Live;
    /// With this many connections it gets no new ones; 0: no limit.
    optional upper_threshold "upper_threshold" [u32] in upper_threshold [],
        Number::<u32>::new(0..=THRESHOLD_MAX), |_, _| 0, Live;
    /// Below this number it gets new ones again; 0: three quarters of `upper_threshold`.
    optional lower_threshold "lower_threshold" [u32] in lower_threshold [],
        Number::<u32>::new(0..=THRESHOLD_MAX), |_, _| 0, Live;
    /// Largest outer packet in bytes; `null`: the MTU of the host's route.
    nullable path_mtu "path_mtu" [u16] in path_mtu [], PATH_MTU, |_, _| None, Live;
    /// How packets to it are wrapped; default: "ipip".
    optional encapsulation "encapsulation" [String] in encapsulation [],
        ENCAPSULATION, |_, _| encapsulation::DEFAULT, Live;
    /// How it is checked; `null`: as its virtual service.
    nullable check "check" [Checks] in checks [], OwnChecks, |_, _| None, Live;
    /// Whether it is a sorry server, which serves only while the others have no quorum.
    plain sorry "sorry" [bool] in is_sorry [], Flag, |_, _| false, Live;
}

/// Checks keys that are valid on their own but may not fit together.
///
/// # Errors
/// The key, and a sentence.
pub fn check(server: &RealServerConfig) -> Result<(), (&'static str, String)> {
    let (upper, lower) = (server.upper_threshold, server.lower_threshold);
    if lower <= upper {
        return Ok(());
    }
    let message = format!("lower_threshold = {lower}: expected at most upper_threshold, which is {upper}");
    Err(("lower_threshold", message))
}

/// Keys from the file and keys set by command may not fit together: then those of the file apply.
pub fn reconcile(file: &RealServerConfig, next: &mut RealServerConfig) {
    if next.lower_threshold > next.upper_threshold {
        (next.upper_threshold, next.lower_threshold) = (file.upper_threshold, file.lower_threshold);
    }
}
