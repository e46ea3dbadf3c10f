#![doc = include_str!("ARCHITECTURE.md")]

pub mod cli;
pub mod config;
pub mod daemon;
pub mod datapath;
pub mod director;
pub mod encapsulation;
pub mod host;
pub mod lab;
pub mod metrics;
pub mod packet;
pub mod realserver;
pub mod time;
