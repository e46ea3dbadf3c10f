//! What is counted, and under which name. [`names`] is the only table of names; [`counters`] are plain and
//! per worker; [`ledger`] records whose they are, [`estimator`] computes their rates; [`exposition`] renders
//! them as Prometheus text.
//!
//! Nothing here allocates per packet.

pub mod counters;
pub mod estimator;
pub mod exposition;
pub mod ledger;
pub mod losses;
pub mod names;
pub mod recent;
pub mod series;
pub mod sightings;
pub mod strays;
pub mod totals;
