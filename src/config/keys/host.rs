//! The top of `director.toml`: the keys of the director's host.

use crate::config::key::keys;
use crate::config::kinds::{
    Flag, GROUP, HOST_NAMES, HashKey, InterfaceName, List, Listen, Number, OneOrList, Optional,
    OuterSourceKind, SocketPathKind, Words,
};
use crate::config::types::{
    AnnounceSetting, CONNECTIONS_MAX_DEFAULT, CaptureSetting, DirectorPlan, METRICS_DIRECTOR, TUN_DIRECTOR,
};

/// One name or a list of names.
const INTERFACES: OneOrList<InterfaceName> = OneOrList(List { of: InterfaceName, is_unique: true });
const CAPTURE: Words<CaptureSetting> = Words::new(&[
    ("auto", CaptureSetting::Auto),
    ("route", CaptureSetting::Route),
    ("rule", CaptureSetting::Rule),
]);
const ANNOUNCE: Words<AnnounceSetting> = Words::new(&[
    ("always", AnnounceSetting::Always),
    ("local", AnnounceSetting::Local),
    ("healthy", AnnounceSetting::Healthy),
    ("never", AnnounceSetting::Never),
]);

/// One thread per queue; a TUN device has up to 256 (MAX_TAP_QUEUES of drivers/net/tun.c).
const QUEUES: Number<usize> = Number::new(1..=256);
/// Up to about 10 GB of entries.
const CONNECTIONS_MAX: i64 = 100_000_000;
const CONNECTIONS: Number<usize> = Number::new(1..=CONNECTIONS_MAX);
const CONNECTIONS_PER_CLIENT: Number<u32> = Number::new(1..=CONNECTIONS_MAX);

keys! {
    HOST_KEYS of DirectorPlan {
        interfaces, tun, queues, metrics, control, control_group, api, http_names, capture, announce, notrack, outer_source,
        connections_max, connections_per_client_max, hash_key
    } aside { cluster, defaults };

    /// The interface that receives the clients' packets for the VIPs, or a list of several.
    file interface "interface" [] in interfaces [], INTERFACES, |_, _| Vec::new(), Restart;
    /// Name of the TUN device.
    file tun "tun" [] in tun [], InterfaceName, |_, _| TUN_DIRECTOR.to_owned(), Restart;
    /// Queues of the TUN device, each served by one thread.
    file queues "queues" [] in queues [], Optional(QUEUES), |_, _| None, Restart;
    /// Address and port that serve metrics and probes.
    file metrics "metrics" [] in metrics [], Listen, |_, _| METRICS_DIRECTOR, Restart;
    /// Unix socket used to query and change a running director.
    file control "control" [] in control [], Optional(SocketPathKind), |_, _| None, Restart;
    /// Group whose members may use the socket.
    file control_group "control_group" [] in control_group [], Optional(GROUP), |_, _| None, Restart;
    /// Address and port that serve the read-only part of the API.
    file api "api" [] in api [], Optional(Listen), |_, _| None, Restart;
    /// Names, in addition to this host's own, under which clients reach `metrics` and `api`.
    file http_names "http_names" [] in http_names [], HOST_NAMES, |_, _| Vec::new(), Restart;
    /// How packets for a VIP reach the TUN device.
    file capture "capture" [] in capture [], CAPTURE, |_, _| CaptureSetting::Auto, Restart;
    /// When this host answers ARP for a VIP and announces it.
    file announce "announce" [] in announce [], ANNOUNCE, |_, _| AnnounceSetting::Always, Restart;
    /// Whether connection tracking is kept away from the clients' packets.
    file notrack "notrack" [] in notrack [], Flag, |_, _| true, Restart;
    /// Source address of the outer packets.
    file outer_source "outer_source" [] in outer_source [], OuterSourceKind, |_, _| None, Restart;
    /// Maximum number of entries in the connection table.
    file connections_max "connections_max" [] in connections_max [],
        CONNECTIONS, |_, _| CONNECTIONS_MAX_DEFAULT, Restart;
    /// Maximum number of entries per client; default: `connections_max`.
    file connections_per_client_max "connections_per_client_max" []
        in connections_per_client_max [],
        CONNECTIONS_PER_CLIENT, |plan, _| per_client_default(plan), Restart;
    /// Key of the hash schedulers.
    file hash_key "hash_key" [] in hash_key [], Optional(HashKey), |_, _| None, Live;
}

fn per_client_default(plan: &DirectorPlan) -> u32 {
    u32::try_from(plan.connections_max).unwrap_or(u32::MAX)
}
