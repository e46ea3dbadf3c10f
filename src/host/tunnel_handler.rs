//! The kernel's own handler of IP protocol 4, which gets each encapsulated packet after the daemon's raw socket.
//!
//! The module `tunnel4` registers the handler (tunnel4_init()); `ipip`, `sit`, `xfrm4_tunnel` and others load it. If a packet is for none of their devices, the kernel answers with ICMP "port unreachable" (tunnel4_rcv()), and a director of IPVS
//! relays that to the client, whose connection fails. A device of the kind `ipip` that is up, such as `tunl0`, unwraps the
//! packet a second time.
//!
//! Nothing of this is the daemon's, so it only reports it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::error::HostError;
use super::netlink::Netlink;
use crate::trouble::{Found, TroubleKind};

/// Where the kernel lists its modules, with the modules that use each one.
const MODULES: &str = "/sys/module";

/// A kernel that handles IP protocol 4 itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TunnelHandler {
    /// The modules that hold the handler, such as `ipip`; empty if it is part of the kernel.
    pub modules: BTreeSet<String>,
    /// Devices of the kind `ipip` that are up.
    pub devices: BTreeSet<String>,
}

impl TunnelHandler {
    /// `None` if the kernel leaves the protocol to programs.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub async fn find(netlink: &Netlink) -> Result<Option<TunnelHandler>, HostError> {
        let Some(modules) = modules(Path::new(MODULES)) else { return Ok(None) };
        Ok(Some(TunnelHandler { modules, devices: netlink.ipip_devices_up().await? }))
    }

    /// What happens to the packets.
    pub fn words(&self) -> String {
        let who = match self.modules.len() {
            0 => "the kernel handles IP protocol 4 itself".to_owned(),
            1 => format!("the module {} is loaded", list(&self.modules)),
            _ => format!("the modules {} are loaded", list(&self.modules)),
        };
        match self.devices.is_empty() {
            true => format!(
                "{who}: the kernel answers encapsulated packets with ICMP errors, which reset new connections"
            ),
            false => {
                format!(
                    "{who}, and {} is up: the kernel unwraps each encapsulated packet, too, so that it arrives twice",
                    list(&self.devices)
                )
            }
        }
    }

    /// The same as a trouble; what ends it is the remedy.
    pub fn trouble(&self) -> Found {
        Found {
            kind: TroubleKind::TunnelHandler,
            subject: "IP protocol 4".to_owned(),
            text: format!("{}; to end this, run: {}", self.words(), self.remedy()),
        }
    }

    /// The command that ends it.
    pub fn remedy(&self) -> String {
        if self.modules.is_empty() {
            let down = self.devices.iter().map(|name| format!("ip link set {name} down; "));
            return down.collect::<String>()
                + "iptables -I OUTPUT -p icmp --icmp-type port-unreachable -m u32 --u32 \"6&0xFF=1 && 4&0x1FFF=0 && 0>>22&0x3C@16>>16&0xFF=4\" -j DROP";
        }
        let modules: Vec<&str> = self.modules.iter().map(String::as_str).collect();
        format!("modprobe -r {}", modules.join(" "))
    }
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(" and ")
}

/// The modules that hold the handler; `None` if there is no handler.
fn modules(folder: &Path) -> Option<BTreeSet<String>> {
    let holders = fs::read_dir(folder.join("tunnel4/holders")).into_iter().flatten().flatten();
    let mut found: BTreeSet<String> =
        holders.map(|holder| holder.file_name().to_string_lossy().into_owned()).collect();
    // A module that is part of the kernel has a folder for its parameters, but no state of loading.
    let is_loadable = |name: &str| folder.join(name).join("initstate").exists();
    if found.is_empty() && is_loadable("tunnel4") {
        found.insert("tunnel4".to_owned());
    }
    if is_loadable("ipip") {
        found.insert("ipip".to_owned());
    }
    let is_builtin = folder.join("ipip").exists() && !is_loadable("ipip");
    (!found.is_empty() || is_builtin).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[&str]) -> Option<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        modules(folder.path()).map(|found| found.into_iter().collect())
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_modules_that_hold_the_handler_are_named() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(with(&["tun/initstate"]), None);
        let usual = ["tunnel4/initstate", "tunnel4/holders/ipip", "ipip/initstate"];
        assert_eq!(with(&usual), names(&["ipip"]));
        let by_sit = ["tunnel4/initstate", "tunnel4/holders/sit", "sit/initstate"];
        assert_eq!(with(&by_sit), names(&["sit"]), "without ipip");
        assert_eq!(with(&["tunnel4/initstate"]), names(&["tunnel4"]), "no module uses it any more");
        assert_eq!(with(&["ipip/parameters/log_ecn_error"]), names(&[]), "part of the kernel");
        assert_eq!(with(&["ipip/initstate"]), names(&["ipip"]), "tunnel4 is part of the kernel");
    }

    #[test]
    fn each_case_has_its_words_and_its_command() {
        let of = |modules: &[&str], devices: &[&str]| TunnelHandler {
            modules: set(modules),
            devices: set(devices),
        };
        let loaded = of(&["ipip", "sit"], &[]);
        assert!(loaded.words().starts_with("the modules ipip and sit are loaded: the kernel answers"));
        assert_eq!(loaded.remedy(), "modprobe -r ipip sit");
        let up = of(&["ipip"], &["tunl0"]);
        assert!(
            up.words().starts_with("the module ipip is loaded, and tunl0 is up: the kernel unwraps each")
        );
        assert_eq!(up.remedy(), "modprobe -r ipip");
        let trouble = up.trouble();
        assert!(
            trouble.words() == up.words() && trouble.text.ends_with("; to end this, run: modprobe -r ipip")
        );
        let builtin = of(&[], &["tunl0"]);
        assert!(builtin.words().starts_with("the kernel handles IP protocol 4 itself, and tunl0 is up"));
        assert!(builtin.remedy().starts_with("ip link set tunl0 down; iptables -I OUTPUT "));
    }
}
