//! How many connections the limit of open files leaves.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::places::CONNECTIONS_MAX;

/// The listening sockets of a director: metrics, control socket, API.
const LISTENERS: usize = 3;

/// Left for what is opened now and then: the configuration file, netlink, ARP, another director's lock.
const SPARE: usize = 24;

/// Raises the limit of open files to what the process may have.
pub(crate) fn raise_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // With the lower limit there are fewer connections.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Connections of one listening socket.
pub(super) fn connections_max() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    share(usize::try_from(limit).unwrap_or(usize::MAX), open())
}

/// Descriptors that the daemon may need in addition to those of its checks: what is open now, and all connections.
pub(crate) fn descriptors_max() -> usize {
    open() + SPARE + LISTENERS * CONNECTIONS_MAX
}

/// The descriptors that are open.
fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(SPARE, Iterator::count)
}

fn share(limit: usize, open: usize) -> usize {
    (limit.saturating_sub(open + SPARE) / LISTENERS).clamp(2, CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listening_sockets_share_what_is_left() {
        assert_eq!(share(1_000_000, 40), CONNECTIONS_MAX);
        assert_eq!(share(1024, 40), CONNECTIONS_MAX);
        assert_eq!(share(124, 40), 20);
        assert_eq!(share(64, 60), 2);
    }
}
