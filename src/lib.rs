#![doc = include_str!("ARCHITECTURE.md")]
#![warn(missing_docs, unreachable_pub, clippy::cast_possible_truncation)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod datapath;
pub mod director;
pub mod doctor;
pub mod encapsulation;
pub mod failure;
pub mod host;
pub mod lab;
pub(crate) mod label;
pub mod metrics;
pub mod packet;
pub mod realserver;
pub mod serve;
#[doc = include_str!("../docs/standards.md")]
pub mod standards {}
pub mod survey;
pub mod time;
pub mod trouble;
