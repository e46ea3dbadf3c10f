//! Health checks, as far as they know neither a clock nor a socket: what a probe sends and whether the answer is a success
//! ([`check`]), when the next probe is due and what follows from the outcomes ([`judge`]).
//!
//! ```text
//! configuration ─▶ judge ──probe is due──▶ daemon: socket, TLS, process ◀─bytes─▶ check
//!                    ▲ └─▶ standing of each real server ─▶ effective weight        │
//!                    └───────────────────── outcome ◀──────────────────────────────┘
//! ```

pub mod check;
pub mod durations;
pub mod half_open;
pub mod hook;
pub mod judge;
pub mod load;
pub mod protocol;
pub mod spec;
pub mod verdict;
pub mod view;

pub use check::CHECKS;
pub use hook::{Cause, Hook, When};
pub use judge::Judge;
pub use load::{Limits, Load};
pub use spec::{Agreement, CheckConfig, OnDown, Options, Row, ServiceHealth, Start, Transport, Value, Via};
pub use verdict::{Failure, FailureClass, Outcome, Success};
pub use view::{State, View};
