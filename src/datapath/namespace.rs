//! Which network namespace this thread is in.

use std::io;
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

/// asm-generic/socket.h.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The cookie of this thread's network namespace (SO_NETNS_COOKIE, Linux 5.14): until the next boot, no other namespace
/// gets the same.
///
/// # Errors
/// ENOPROTOOPT from an older kernel.
pub fn network_cookie() -> io::Result<u64> {
    // A socket belongs to the namespace of the thread that opens it.
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let mut cookie = 0u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: `cookie` is writable for `length` bytes during the call, and any bytes are a valid u64.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sockets_of_one_namespace_have_one_cookie() {
        assert_eq!(network_cookie().unwrap(), network_cookie().unwrap());
    }
}
