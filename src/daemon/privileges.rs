//! What a daemon may do: its capabilities are reduced to those it uses after its start, and it can gain no other.
//!
//! Capabilities belong to threads (capabilities(7)). The runtime's threads begin with the reduced ones, and the main
//! thread keeps the others until sockets, devices and files are open; the workers inherit from it.

use rustix::thread::{CapabilitySet, capabilities, set_capabilities, set_no_new_privs};

/// CAP_NET_ADMIN: addresses, routes, rules, sysctls of the network, the TUN device. CAP_NET_RAW: packet sockets.
/// CAP_DAC_READ_SEARCH: a reload reads the configuration of another owner.
const KEPT: CapabilitySet =
    CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW).union(CapabilitySet::DAC_READ_SEARCH);

/// The thread that starts and ends programs keeps three more: CAP_SETUID and CAP_SETGID for programs of another user, and
/// CAP_KILL to end them.
const FOR_PROGRAMS: CapabilitySet =
    KEPT.union(CapabilitySet::SETUID).union(CapabilitySet::SETGID).union(CapabilitySet::KILL);

/// Discards setuid and file capabilities of programs for the process; call it before it has other threads.
pub(super) fn gain_none() {
    // Fails only before Linux 3.5.
    let _ = set_no_new_privs(true);
}

/// Reduces the capabilities of the calling thread to those that a running daemon uses, as far as it has them.
pub(super) fn reduce() {
    reduce_to(KEPT);
}

/// Reduces the capabilities of the thread that starts and ends programs.
pub(super) fn reduce_for_programs() {
    reduce_to(FOR_PROGRAMS);
}

fn reduce_to(kept: CapabilitySet) {
    let reduced = capabilities(None).and_then(|mut sets| {
        sets.effective &= kept;
        sets.permitted &= kept;
        sets.inheritable = CapabilitySet::empty();
        set_capabilities(None, sets)
    });
    if let Err(error) = reduced {
        tracing::warn!("cannot reduce the capabilities: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_what_a_running_daemon_uses_and_nothing_else() {
        let before = capabilities(None).unwrap();
        let after = std::thread::spawn(|| {
            reduce();
            capabilities(None).unwrap()
        });
        let after = after.join().unwrap();
        assert_eq!(after.permitted, before.permitted & KEPT);
        assert_eq!(after.effective, before.effective & KEPT);
        assert_eq!(after.inheritable, CapabilitySet::empty());
        assert_eq!(capabilities(None).unwrap(), before, "other threads are not affected");
    }
}
