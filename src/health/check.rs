//! The kinds of checks: one file and one row each. A check is a small protocol: bytes in, bytes and an outcome out. The
//! driver opens the connection, and TLS where [`super::Transport`] requires it; it limits time and answers.

mod agent;
mod bytes;
mod dns;
mod exchange;
mod exec;
mod expression;
mod ftp;
mod grpc;
mod http;
mod https;
mod icmp;
mod imap;
mod memcached;
mod mtu;
mod mysql;
mod nntp;
mod options;
mod pop3;
mod postgres;
mod redis;
mod smtp;
mod tcp;
mod tls;
mod udp;

pub use super::protocol::{Check, Command, Exchange, Step, Target, Tls};
use super::spec::Row;

/// Every kind of check.
pub static CHECKS: &[&Row] = &[
    &tcp::ROW,
    &tls::ROW,
    &http::ROW,
    &https::ROW,
    &udp::ROW,
    &dns::ROW,
    &icmp::ROW,
    &mtu::ROW,
    &exec::ROW,
    &agent::ROW,
    &exchange::ROW,
    &smtp::ROW,
    &imap::ROW,
    &pop3::ROW,
    &ftp::ROW,
    &nntp::ROW,
    &redis::ROW,
    &memcached::ROW,
    &mysql::ROW,
    &postgres::ROW,
    &grpc::ROW,
];

/// The most bytes of an answer that a driver reads, of one connection, if [`Exchange::is_limited`].
pub const ANSWER_MAX: usize = 256 << 10;
