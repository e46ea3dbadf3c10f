//! What is counted and what it is called. [`names`] is the one table of names; [`counters`] are plain
//! and per worker; [`ledger`] knows whose they are, [`estimator`] their rates; [`exposition`] turns them
//! into Prometheus text.
//!
//! Nothing here allocates per packet.

pub mod counters;
pub mod estimator;
pub mod exposition;
pub mod ledger;
pub mod names;
