//! Two ways out: into the network and to the host's own stack.

use std::io;

use super::{Exit, Outgoing, Transmit};
use crate::packet::Frame;

/// Sends each packet to its exit.
pub struct Both<N, H> {
    network: N,
    host: H,
    chosen: Vec<Outgoing>,
    /// Of those chosen, their places in the whole batch.
    positions: Vec<usize>,
}

impl<N: Transmit, H: Transmit> Both<N, H> {
    /// `network` gets the packets that leave this host, `host` the others.
    pub fn new(network: N, host: H) -> Both<N, H> {
        Both { network, host, chosen: Vec::new(), positions: Vec::new() }
    }

    fn choose(&mut self, outgoing: &[Outgoing], exit: impl Fn(&Exit) -> bool) {
        self.chosen.clear();
        self.positions.clear();
        for (position, packet) in outgoing.iter().enumerate().filter(|(_, packet)| exit(&packet.exit)) {
            self.chosen.push(*packet);
            self.positions.push(position);
        }
    }
}

impl<N: Transmit, H: Transmit> Transmit for Both<N, H> {
    fn transmit(
        &mut self,
        frames: &mut [Frame],
        outgoing: &[Outgoing],
        on_failure: &mut dyn FnMut(usize, io::Error),
    ) {
        let is_host = |exit: &Exit| *exit == Exit::Host;
        if !outgoing.iter().any(|packet| is_host(&packet.exit)) {
            return self.network.transmit(frames, outgoing, on_failure);
        }
        self.choose(outgoing, |exit| !is_host(exit));
        let Both { network, chosen, positions, .. } = self;
        network.transmit(frames, chosen, &mut |place, error| on_failure(positions[place], error));
        self.choose(outgoing, is_host);
        let Both { host, chosen, positions, .. } = self;
        host.transmit(frames, chosen, &mut |place, error| on_failure(positions[place], error));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::datapath::memory::Sink;

    #[test]
    fn each_packet_takes_its_exit_and_a_failure_names_its_place_in_the_batch() {
        let network = |last: u8| Exit::Network(IpAddr::from([10, 0, 0, last]));
        let exits = [Exit::Host, network(1), Exit::Host, network(2), network(3)];
        let mut frames: Vec<Frame> = (0..5u8).map(|byte| Frame::from_packet(&[byte])).collect();
        let outgoing: Vec<_> =
            exits.iter().enumerate().map(|(frame, exit)| Outgoing { frame, exit: *exit }).collect();
        let of = |unreachable| Sink { unreachable, ..Sink::default() };
        let mut both = Both::new(of(vec![network(2)]), of(vec![Exit::Host]));
        let mut failed = Vec::new();
        both.transmit(&mut frames, &outgoing, &mut |position, _| failed.push(position));
        assert_eq!(failed, [3, 0, 2]);
        assert_eq!(both.network.packets, [(network(1), vec![1]), (network(3), vec![4])]);
        both.host.unreachable.clear();
        both.transmit(&mut frames[1..2], &[Outgoing { frame: 0, exit: network(1) }], &mut |_, _| ());
        both.transmit(&mut frames[2..3], &[Outgoing { frame: 0, exit: Exit::Host }], &mut |_, _| ());
        assert_eq!((both.network.packets.len(), both.host.packets), (3, vec![(Exit::Host, vec![2])]));
    }
}
