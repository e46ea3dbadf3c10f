//! What is counted and what it is called. [`names`] is the one table of names; [`counters`] are plain
//! and per worker; [`exposition`] turns them into Prometheus text.
//!
//! Nothing here allocates per packet.

pub mod counters;
pub mod exposition;
pub mod names;
