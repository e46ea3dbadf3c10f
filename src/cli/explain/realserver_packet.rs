//! A real server without a host, for `explain`.

use super::{Explain, Explanation, hex};
use crate::config::{Source, plan};
use crate::encapsulation::ENCAPSULATIONS;
use crate::failure::Failure;
use crate::packet::ipv4::Ipv4;
use crate::packet::{Frame, MTU_DEFAULT};
use crate::realserver::Decapsulator;
use crate::realserver::guard::Guard;
use crate::realserver::verdict::Verdict;
use crate::time::Moment;

pub(super) struct Realserver {
    decapsulator: Decapsulator,
}

impl Realserver {
    /// `rips`, if the file has it, replaces the host's own addresses.
    pub(super) fn new(source: &Source) -> Result<Realserver, Failure> {
        let plan =
            plan::realserver(source, &[], &[], false).map_err(|error| Failure::Refused(error.to_string()))?;
        let own_addresses = plan.guard.rips.clone();
        let guard = Guard::new(plan.guard, own_addresses);
        Ok(Realserver { decapsulator: Decapsulator::new(guard, ENCAPSULATIONS, MTU_DEFAULT) })
    }
}

impl Explain for Realserver {
    fn explain(&mut self, index: usize, packet: &[u8], _: Moment) -> (Explanation, Vec<Vec<u8>>) {
        let mut steps = Vec::new();
        if let Ok(outer) = Ipv4::parse_unsummed(packet) {
            let (source, destination) = (outer.source(), outer.destination());
            steps.push(format!("outer: {source} > {destination}, protocol {}", outer.protocol()));
        }
        let mut frame = Frame::from_packet(packet);
        let verdict = self.decapsulator.handle_packet(&mut frame);
        let (name, reason, leaving) = match verdict {
            Verdict::Deliver(_) => ("deliver", None, vec![frame.packet().to_vec()]),
            Verdict::Drop(reason) => ("drop", Some(reason.label()), Vec::new()),
        };
        if let Some(inner) = leaving.first().and_then(|packet| Ipv4::parse_unsummed(packet).ok()) {
            let (source, destination) = (inner.source(), inner.destination());
            steps.push(format!("inner: {source} > {destination}, protocol {}", inner.protocol()));
        }
        let explanation = Explanation {
            index,
            verdict: name,
            reason,
            virtual_service: None,
            real_server: None,
            packets: leaving.iter().map(|packet| hex(packet)).collect(),
            steps,
        };
        (explanation, leaving)
    }
}
