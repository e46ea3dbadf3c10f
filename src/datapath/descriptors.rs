//! The descriptors of the process.

use nix::errno::Errno;

/// Those that are open above standard error are closed in every program that this process starts: also those that its
/// own parent has left open. Fails before Linux 5.11.
pub fn close_at_exec() -> Result<(), Errno> {
    // SAFETY: changes a flag of descriptors and touches no memory; nothing here passes one on by inheritance.
    let outcome =
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(outcome).map(drop)
}
