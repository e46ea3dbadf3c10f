//! Whether a daemon with the same TUN device runs on this host already.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::Failure;
use crate::datapath::tun;

/// Fails if a daemon holds the device, before anything else can fail because of that daemon.
pub(super) fn refuse_second(device: &str) -> Result<(), Failure> {
    let held = tun::lock_address(device).and_then(|address| UnixStream::connect_addr(&address));
    let Ok(holder) = held else { return Ok(()) };
    let pid = getsockopt(&holder, PeerCredentials).map_or(0, |credentials| credentials.pid());
    Err(Failure::Failed(format!(
        "a {} is already running here ({}), with the device {device}; stop it first, or give this one a different `tun`, `metrics` \
         and `control`",
        role(pid),
        [Some(format!("pid {pid}")), age(pid)].into_iter().flatten().collect::<Vec<_>>().join(", ")
    )))
}

/// The subcommand that the process was started with.
fn role(pid: i32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let word = words.split(|byte| *byte == 0).nth(1).map(|word| String::from_utf8_lossy(word).into_owned());
    word.filter(|word| word == "director" || word == "realserver").unwrap_or_else(|| "daemon".to_owned())
}

/// "for 2h 5m".
fn age(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let age = age_of(&stat, &uptime)?;
    Some(format!("for {}", humantime::format_duration(age)))
}

/// The age of a process from its line of /proc/PID/stat and from /proc/uptime, in whole seconds.
fn age_of(stat: &str, uptime: &str) -> Option<Duration> {
    /// include/asm-generic/param.h: USER_HZ, the unit of times in /proc.
    const TICKS_PER_SECOND: u64 = 100;
    // proc_pid_stat(5): the name in parentheses may contain blanks; `starttime` is field 22, the 20th after it.
    let (_, fields) = stat.rsplit_once(')')?;
    let start: u64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    let now: u64 = uptime.split('.').next()?.parse().ok()?;
    Some(Duration::from_secs(now.saturating_sub(start / TICKS_PER_SECOND)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_age_of_a_process_is_read_from_proc() {
        let stat = "4711 (a ) b) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 99 88\n";
        assert_eq!(age_of(stat, "1000.50 2000.00\n"), Some(Duration::from_secs(1000 - 123)));
        assert_eq!(age_of(stat, "100.00 1.00\n"), Some(Duration::ZERO));
        assert_eq!(age_of("4711 (a) S", "1000.50 1.00"), None);
        assert!(age(std::process::id().try_into().unwrap()).is_some_and(|age| age.starts_with("for ")));
    }

    #[test]
    fn a_second_daemon_is_refused_with_the_pid_of_the_first() {
        let device = format!("test{}", std::process::id());
        assert!(refuse_second(&device).is_ok());
        let lock = UnixListener::bind_addr(&tun::lock_address(&device).unwrap()).unwrap();
        let message = refuse_second(&device).unwrap_err().to_string();
        let expected = format!("a daemon is already running here (pid {}, for ", std::process::id());
        assert!(message.starts_with(&expected) && message.contains(&device), "{message}");
        drop(lock);
        assert!(refuse_second(&device).is_ok());
    }
}
