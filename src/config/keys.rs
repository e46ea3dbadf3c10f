//! The tables of keys: one row for every key of every block of the two configuration files.

pub mod check;
pub mod cluster;
pub mod health;
pub mod host;
pub mod matchers;
pub mod on_change;
pub mod persistence;
pub mod real_server;
pub mod realserver;
pub mod scheduler;
pub mod service;
pub mod timeouts;
