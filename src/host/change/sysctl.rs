//! Values under /proc/sys. A key is its path there: `net/ipv4/conf/eth0/rp_filter`.
//!
//! `net/ipv4/ip_forward` is never written, because writing it resets the forwarding of every interface
//! (kernel Documentation/networking/ip-sysctl.rst, ip_forward).

use std::fs;
use std::path::PathBuf;

use nix::errno::Errno;

use super::{ChangeKind, Device, Observed, Presence, Replaced, Undone};
use crate::host::error::HostError;
use crate::host::journal::Record;
use crate::host::netlink::Netlink;

/// The required value of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// Any other value, higher or lower, is replaced.
    Exactly(i64),
    /// A higher value does the same and more (arp_ignore, arp_announce).
    AtLeast(i64),
    /// For `net/ipv4/conf/IF/rp_filter`: the greater of this and `all` must not be 1 (strict); set to 2
    /// (loose) if it is.
    NotStrict,
}

/// One setting and its required value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sysctl {
    /// The path below /proc/sys.
    pub key: String,
    /// Decides both whether the present value suffices and which one is written.
    pub wanted: Wanted,
}

impl Sysctl {
    /// For settings that belong to no interface; others: [`Sysctl::of_interface`].
    pub fn new(key: impl Into<String>, wanted: Wanted) -> Sysctl {
        Sysctl { key: key.into(), wanted }
    }

    /// `net/ipv4/conf/INTERFACE/NAME`.
    pub fn of_interface(interface: &str, name: &str, wanted: Wanted) -> Sysctl {
        Sysctl::new(format!("net/ipv4/conf/{interface}/{name}"), wanted)
    }

    /// The value to write if the present one is not sufficient.
    pub fn value(&self) -> i64 {
        match self.wanted {
            Wanted::Exactly(value) | Wanted::AtLeast(value) => value,
            Wanted::NotStrict => 2,
        }
    }

    /// Whether the present value is sufficient.
    pub fn is_satisfied(&self) -> Result<bool, HostError> {
        let own = read(&self.key)?;
        Ok(match self.wanted {
            Wanted::Exactly(value) => own == value,
            Wanted::AtLeast(value) => own >= value,
            Wanted::NotStrict => effective(own, read(&all_key(&self.key))?) != 1,
        })
    }

    /// The name as `sysctl` writes it: separated by dots; a dot inside an interface name becomes a slash.
    pub fn name(&self) -> String {
        self.key
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect()
    }
}

impl ChangeKind for Sysctl {
    fn presence(&self, _: &Observed) -> Result<Presence, HostError> {
        Ok(if self.is_satisfied()? { Presence::Foreign } else { Presence::Absent })
    }

    fn replaced(&self) -> Result<Option<Replaced>, HostError> {
        let all = overwriting_key(&self.key).map(|all| read(&all)).transpose()?;
        Ok(Some(Replaced { value: read(&self.key)?, all }))
    }

    fn record(&self, replaced: Option<Replaced>) -> Option<Record> {
        let Replaced { value: previous, all } = replaced?;
        Some(Record::Sysctl { key: self.key.clone(), value: self.value(), previous, all })
    }

    async fn apply(&self, _: &Netlink) -> Result<(), HostError> {
        write(&self.key, self.value())
    }

    /// Another program's value stays, also one that it has set for every interface.
    async fn undo(&self, _: &Netlink, _: &Observed, replaced: Option<Replaced>) -> Result<Undone, HostError> {
        let (Some(replaced), Some(found)) = (replaced, self.replaced()?) else { return Ok(Undone::Removed) };
        if found.value != self.value() {
            return Ok(Undone::Left(format!("its value is now {}, set by another program", found.value)));
        }
        if replaced.all != found.all && found.all == Some(found.value) {
            return Ok(Undone::Left("another program has set it for every interface meanwhile".to_owned()));
        }
        write(&self.key, replaced.value)?;
        Ok(Undone::Removed)
    }

    /// The settings of an interface move with its name.
    fn renamed(self, from: &str, to: &Device) -> Sysctl {
        let rename = |part| if part == from { to.name.as_str() } else { part };
        Sysctl { key: self.key.split('/').map(rename).collect::<Vec<_>>().join("/"), ..self }
    }

    fn describe(&self) -> String {
        format!("sysctl {}={}", self.name(), self.value())
    }

    fn command(&self) -> String {
        format!("sysctl -w {}={}", self.name(), self.value())
    }
}

/// The value in effect where the greater of `all` and the interface counts: rp_filter, arp_ignore,
/// arp_announce (ip-sysctl.rst: "The max value from conf/{all,interface} is used").
pub fn effective(interface: i64, all: i64) -> i64 {
    interface.max(all)
}

/// Reads a numeric setting.
pub fn read(key: &str) -> Result<i64, HostError> {
    let text = fs::read_to_string(path(key)).map_err(|error| failure("read", key, &error))?;
    text.trim().parse().map_err(|_| HostError::Sysctl {
        what: "read",
        path: shown(key),
        errno: Errno::EINVAL,
    })
}

/// Writes a numeric setting.
pub fn write(key: &str, value: i64) -> Result<(), HostError> {
    fs::write(path(key), value.to_string()).map_err(|error| failure("write", key, &error))
}

/// The setting that overwrites `key` whenever it changes: `net/ipv4/conf/all/forwarding`, which is `ip_forward`, sets the
/// forwarding of every interface (inet_forward_change()). No other setting for `all` does so.
fn overwriting_key(key: &str) -> Option<String> {
    let all = all_key(key);
    (key.starts_with("net/ipv4/conf/") && key.ends_with("/forwarding") && all != key).then_some(all)
}

fn all_key(key: &str) -> String {
    let mut parts: Vec<&str> = key.split('/').collect();
    if let [.., interface, _] = parts.as_mut_slice() {
        *interface = "all";
    }
    parts.join("/")
}

fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(key)
}

fn shown(key: &str) -> String {
    path(key).display().to_string()
}

fn failure(what: &'static str, key: &str, error: &std::io::Error) -> HostError {
    HostError::Sysctl { what, path: shown(key), errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_sysctl_writes_them() {
        let sysctl = Sysctl::of_interface("eth0.100", "rp_filter", Wanted::NotStrict);
        assert_eq!(sysctl.key, "net/ipv4/conf/eth0.100/rp_filter");
        assert_eq!(sysctl.name(), "net.ipv4.conf.eth0/100.rp_filter");
        assert_eq!(all_key(&sysctl.key), "net/ipv4/conf/all/rp_filter");
    }

    #[test]
    fn strict_all_is_loosened_by_the_interface() {
        assert_eq!(effective(0, 1), 1);
        assert_eq!(effective(2, 1), 2);
        assert_eq!(Sysctl::of_interface("eth0", "rp_filter", Wanted::NotStrict).value(), 2);
    }

    #[test]
    fn a_missing_setting_counts_as_removed() {
        let error = read("net/ipv4/conf/no-such-device/rp_filter").unwrap_err();
        assert!(error.is_gone(), "{error}");
        assert!(error.to_string().contains("/proc/sys/net/ipv4/conf/no-such-device/rp_filter"), "{error}");
    }
}
