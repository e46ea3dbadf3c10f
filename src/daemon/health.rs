//! Health checks as far as they have a clock and sockets: runs the probes that the judge asks for, and the programs that
//! a change of health causes.

mod direct;
mod driver;
mod failure;
mod impossible;
mod probe;
mod program;
mod sockets;
mod tls;
mod wanted;
