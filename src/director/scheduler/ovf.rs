//! `ovf`, overflow: the real server with the highest weight whose active connections do not exceed its
//! weight; if all exceed it, none (ip_vs_ovf.c).

use std::sync::Arc;

use super::fo::heaviest;
use super::{Memory, Options, Request, Row, Scheduler};
use crate::director::real_server::RealServer;

/// `ipvsadm -s ovf`.
pub const ROW: Row = Row {
    name: "ovf",
    summary: "the one with the highest weight, until it has as many active connections as its weight",
    flags: &[],
    is_stateless: false,
    build,
};

struct Overflow;

fn build(_: &[Arc<RealServer>], _: &Options, _: Memory) -> Box<dyn Scheduler> {
    Box::new(Overflow)
}

impl Scheduler for Overflow {
    fn choose(&self, real_servers: &[Arc<RealServer>], _: &Request) -> Option<usize> {
        heaviest(real_servers, |server| server.is_eligible() && server.active() <= u64::from(server.weight()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn a_server_overflows_above_its_weight() {
        let choice = |given: &[(u32, u32, u32)]| {
            let servers = testing::servers(given);
            testing::choice(&*testing::build(&ROW, &servers), &servers)
        };
        assert_eq!(choice(&[(5, 0, 0), (10, 10, 99)]), Some(1));
        assert_eq!(choice(&[(5, 0, 0), (10, 11, 0)]), Some(0));
        assert_eq!(choice(&[(5, 6, 0), (10, 11, 0)]), None);
    }
}
