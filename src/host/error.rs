//! Why a change on the host failed. Every message is one line: what, where, what to do.

use std::io;

use nix::errno::Errno;

/// A failed query or change of the host's network settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No link has this name now; a daemon that is running waits for it.
    #[error("interface {0} does not exist; `ip link` lists those that do")]
    NoInterface(String),
    /// A point-to-point or tunnel device, on which there is no ARP.
    #[error(
        "interface {0} has no Ethernet address, so it cannot announce VIPs; choose the interface of the clients' network or announce = \"never\""
    )]
    NoHardwareAddress(String),
    /// The kernel answered a netlink request with an error.
    #[error("cannot {what}: {}{}", errno.desc(), advice(*errno))]
    Netlink {
        /// The attempt and its object: "add route 10.0.0.1/32 to table 7690".
        what: String,
        /// As positive as in `errno.h`; netlink carries it negated.
        errno: Errno,
    },
    /// The netlink connection broke, or returned an invalid answer.
    #[error("cannot {what}: {why}; restart the daemon if this repeats")]
    Connection {
        /// The attempt that has no outcome: it may have succeeded in the kernel.
        what: String,
        /// The library's text, or that no answer came in time.
        why: String,
    },
    /// A file below /proc/sys could not be read or written.
    #[error("cannot {what} {path}: {}{}", errno.desc(), sysctl_advice(*errno))]
    Sysctl {
        /// "read" or "write".
        what: &'static str,
        /// The whole path, with /proc/sys.
        path: String,
        /// ENOENT if the device has been removed, EROFS in most containers.
        errno: Errno,
    },
    /// The request cannot work on this host; the text contains the reason and the remedy.
    #[error("{0}")]
    Refused(String),
}

impl HostError {
    /// The object, or the device it was on, no longer exists: there is nothing left to undo.
    pub fn is_gone(&self) -> bool {
        match self {
            HostError::Netlink { errno, .. } => {
                matches!(
                    errno,
                    Errno::ESRCH | Errno::ENOENT | Errno::ENODEV | Errno::ENXIO | Errno::EADDRNOTAVAIL
                )
            }
            HostError::Sysctl { errno, .. } => *errno == Errno::ENOENT,
            HostError::NoInterface(_) => true,
            _ => false,
        }
    }

    /// An error of the netlink library, with the attempt ("add route 10.0.0.1/32 dev lvsd0").
    pub fn from_netlink(what: impl Into<String>, error: rtnetlink::Error) -> HostError {
        let what = what.into();
        match error {
            rtnetlink::Error::NetlinkError(message) => {
                HostError::Netlink { what, errno: Errno::from_raw(message.raw_code().abs()) }
            }
            other => HostError::Connection { what, why: other.to_string() },
        }
    }

    /// An error of a socket or of the connection ("open a netlink socket").
    pub fn from_io(what: impl Into<String>, error: &io::Error) -> HostError {
        let what = what.into();
        match error.raw_os_error() {
            Some(code) => HostError::Netlink { what, errno: Errno::from_raw(code) },
            None => HostError::Connection { what, why: error.to_string() },
        }
    }
}

fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM | Errno::EACCES => "; run as root or with CAP_NET_ADMIN and CAP_NET_RAW",
        Errno::EEXIST => "; a different one exists: remove it or choose another VIP",
        Errno::ENETDOWN => "; the device is down: `ip link set DEVICE up`",
        Errno::ENETUNREACH | Errno::EHOSTUNREACH => "; there is no route to it: add one",
        _ => "",
    }
}

fn sysctl_advice(errno: Errno) -> &'static str {
    match errno {
        Errno::EROFS | Errno::EACCES | Errno::EPERM => {
            "; run as root, and in a container make /proc/sys/net writable or set the value on the host"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_contain_what_failed_where_and_the_remedy() {
        let error =
            HostError::Netlink { what: "add route 10.0.0.1/32 dev lvsd0".into(), errno: Errno::EPERM };
        assert_eq!(
            error.to_string(),
            "cannot add route 10.0.0.1/32 dev lvsd0: Operation not permitted; \
             run as root or with CAP_NET_ADMIN and CAP_NET_RAW"
        );
        assert_eq!(
            HostError::NoInterface("eth7".into()).to_string(),
            "interface eth7 does not exist; `ip link` lists those that do"
        );
    }

    #[test]
    fn an_object_that_no_longer_exists_counts_as_removed() {
        let with = |errno| HostError::Netlink { what: String::new(), errno };
        assert!(with(Errno::ESRCH).is_gone() && !with(Errno::EPERM).is_gone());
    }
}
