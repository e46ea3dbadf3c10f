//! The kinds of packets of checks through the tunnel: those of the rules, and those in the journal.

use serde::{Deserialize, Serialize};

/// Where packets of checks go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Those that checks send.
    Out,
    /// The answers.
    Back,
}

/// A protocol of checks that uses sockets of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
}
