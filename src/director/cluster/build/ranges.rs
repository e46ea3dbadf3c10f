//! Ranges of ports, none inside another any more.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::director::cluster::{Ports, Ranged, VirtualService};

/// Splits ranges that are disjoint or nested so that they no longer overlap: each piece belongs to the
/// narrowest range that contains it. In ascending order.
pub(super) fn flattened(mut ranges: Vec<Ranged>) -> Vec<Ranged> {
    ranges.sort_by_key(|(ports, _)| (ports.first, Reverse(ports.last)));
    let mut pieces = Vec::new();
    let mut open: Vec<Ranged> = Vec::new();
    // Ports below this one are assigned.
    let mut given = 0u32;
    let mut give = |until: u32, given: &mut u32, service: &Arc<VirtualService>| {
        if *given < until
            && let (Ok(first), Ok(last)) = (u16::try_from(*given), u16::try_from(until - 1))
        {
            pieces.push((Ports { first, last }, service.clone()));
            *given = until;
        }
    };
    for range in ranges {
        let first = u32::from(range.0.first);
        while let Some((ports, service)) = open.pop_if(|(ports, _)| u32::from(ports.last) < first) {
            give(u32::from(ports.last) + 1, &mut given, &service);
        }
        if let Some((_, service)) = open.last() {
            give(first, &mut given, service);
        }
        given = given.max(first);
        open.push(range);
    }
    while let Some((ports, service)) = open.pop() {
        give(u32::from(ports.last) + 1, &mut given, &service);
    }
    pieces
}
