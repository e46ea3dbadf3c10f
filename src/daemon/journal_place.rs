//! Where a daemon keeps its journal of changes on the host.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::datapath::namespace;
use crate::host::JournalPlace;

/// Where the journals are, unless the service manager names another directory.
const DIRECTORY: &str = "/run/lvs-tund";

/// systemd.exec(5): the directories made for RuntimeDirectory=, separated by colons.
const DIRECTORIES_OF_THE_SERVICE: &str = "RUNTIME_DIRECTORY";

/// The journal of the daemon of this role with this device; `None` if the network namespace cannot be identified.
pub(super) fn of(role: &str, tun: &str) -> Option<JournalPlace> {
    let network = namespace::network_cookie().or_else(|_| network_inode());
    let network = network.inspect_err(|error| tracing::warn!("host: no journal of changes: {error}")).ok()?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let given = std::env::var(DIRECTORIES_OF_THE_SERVICE).ok();
    let given = given.as_deref().and_then(|given| given.split(':').next()).filter(|given| !given.is_empty());
    Some(JournalPlace {
        directory: PathBuf::from(given.unwrap_or(DIRECTORY)),
        namespace: format!("{}/{network}", boot.trim()),
        name: format!("{role}-{tun}-{network}"),
    })
}

/// Where the kernel has no cookies: the inode of a namespace that has ended may be used again.
fn network_inode() -> std::io::Result<u64> {
    fs::metadata("/proc/thread-self/ns/net").map(|namespace| namespace.ino())
}
