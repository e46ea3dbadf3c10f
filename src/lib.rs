#![doc = include_str!("ARCHITECTURE.md")]
//!
//! # Public surface
//!
//! | path | is |
//! |---|---|
//! | [`run`] | the whole program: parses a command line and runs the command |
//!
//! Only this keeps its meaning from one version to the next. The rooms below are public for the tests, benchmarks and
//! fuzz targets of this package, and for the links of the map; any version may change what they contain.

#![warn(missing_docs, unreachable_pub, clippy::cast_possible_truncation)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub use cli::run;

mod cli;
mod daemon;
mod failure;
mod label;
mod survey;

pub mod config;
pub mod control;
pub mod convert;
pub mod datapath;
pub mod director;
pub mod doctor;
pub mod encapsulation;
pub mod health;
pub mod host;
pub mod lab;
pub mod metrics;
pub mod packet;
pub mod probing;
pub mod realserver;
pub mod serve;
#[doc = include_str!("../docs/standards.md")]
pub mod standards {}
pub mod time;
pub mod trouble;
