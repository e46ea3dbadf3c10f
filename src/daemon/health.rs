//! Health checks as far as they have a clock and sockets: runs the probes that the judge finds due, and the programs of
//! `on_change`.

mod direct;
mod driver;
mod echoes;
mod failure;
mod hooks;
mod impossible;
mod limits;
mod probe;
mod program;
mod sockets;
mod tls;
mod tunnel;
mod unready;
mod wanted;

pub(super) use self::driver::{Ask, Driver, Ends, News, asks};
pub(super) use self::hooks::Hooks;
pub(super) use self::limits::Capacity;
pub(super) use self::probe::Tools;
pub(super) use self::program::Starter;
pub(super) use self::tunnel::AllSockets;
pub(super) use self::unready::unready;
pub(super) use self::wanted::Wanted;
