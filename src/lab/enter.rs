//! The privileges that a process needs for a lab, and how to get them without root: a user namespace.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use super::{Attempt, LabError};

/// How this process may create network namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// It had the capabilities already.
    Held,
    /// It is root in its own user namespace, and unprivileged outside.
    UserNamespace,
}

static PRIVILEGE: OnceLock<Privilege> = OnceLock::new();

// capabilities(7); bit numbers of linux/capability.h
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (21, "CAP_SYS_ADMIN")];

/// Sysctls that distributions use to forbid user namespaces, and the value that forbids them.
const FORBIDDING: [(&str, &str); 3] = [
    ("user.max_user_namespaces", "0"),
    ("kernel.unprivileged_userns_clone", "0"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1"),
];

/// Ensures that this process may create network namespaces, entering a user namespace if necessary.
///
/// Call it first in `main`: user_namespaces(7) does not allow it for a process with more than one thread.
///
/// # Errors
/// One sentence about what is missing.
pub fn enter() -> Result<Privilege, LabError> {
    if let Some(&privilege) = PRIVILEGE.get() {
        return Ok(privilege);
    }
    let privilege = if missing_capabilities()?.is_empty() {
        Privilege::Held
    } else {
        enter_user_namespace()?;
        Privilege::UserNamespace
    };
    Ok(*PRIVILEGE.get_or_init(|| privilege))
}

/// Ensures that the daemons can open the TUN device.
///
/// # Errors
/// One sentence about what is missing. Root in a user namespace cannot open a device that only the
/// machine's root may open.
pub fn require_tun() -> Result<(), LabError> {
    let opened = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    opened.map(drop).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "load the kernel module tun",
            _ => "run as root, or let this user open it (mode 0666 is usual)",
        };
        LabError::Forbidden(format!("director and real servers need /dev/net/tun: {error}; {remedy}"))
    })
}

pub(super) fn is_in_user_namespace() -> bool {
    PRIVILEGE.get() == Some(&Privilege::UserNamespace)
}

fn missing_capabilities() -> Result<Vec<&'static str>, LabError> {
    let status =
        fs::read_to_string("/proc/self/status").attempt(|| "cannot read /proc/self/status".into())?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    Ok(CAPABILITIES.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|&(_, name)| name).collect())
}

fn enter_user_namespace() -> Result<(), LabError> {
    let (user, group) = (geteuid(), getegid());
    let threads = fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(1);
    if threads > 1 {
        return Err(LabError::Forbidden(format!(
            "the lab must enter a user namespace before the first thread starts, but {threads} threads are running"
        )));
    }
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| forbidden(errno.into()))?;
    // user_namespaces(7): an unprivileged process may write gid_map only after "deny".
    fs::write("/proc/self/setgroups", "deny").map_err(forbidden)?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1")).map_err(forbidden)?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1")).map_err(forbidden)?;
    match missing_capabilities()?.as_slice() {
        [] => Ok(()),
        _ => Err(forbidden(io::ErrorKind::PermissionDenied.into())),
    }
}

fn forbidden(error: io::Error) -> LabError {
    let names: Vec<_> = CAPABILITIES.iter().map(|&(_, name)| name).collect();
    let cause = FORBIDDING
        .iter()
        .find(|(key, value)| sysctl_is(key, value))
        .map_or_else(|| error.to_string(), |(key, value)| format!("{key} is {value}"));
    LabError::Forbidden(format!(
        "a lab needs root ({}) or unprivileged user namespaces, and this machine does not allow those ({cause})",
        names.join(", ")
    ))
}

fn sysctl_is(key: &str, value: &str) -> bool {
    let path = Path::new("/proc/sys").join(key.replace('.', "/"));
    fs::read_to_string(path).is_ok_and(|read| read.trim() == value)
}
