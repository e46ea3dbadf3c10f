//! Virtual services that were removed and may return: each then gets its slot and its real servers back, and no other
//! service gets them meanwhile.

use std::collections::{HashMap, HashSet};

use super::super::config::VirtualServiceConfig;
use super::super::identity;

/// A virtual service that was removed: what it is recognised by when it returns, and the slot that it then gets back.
#[derive(Clone)]
pub(in crate::director::cluster) struct Left {
    /// Without its real servers.
    config: VirtualServiceConfig,
    slot: u16,
}

/// During the build of a snapshot.
pub(super) struct Leaving<'w> {
    left: Vec<Left>,
    reserved: HashSet<u16>,
    /// By the name in the configuration.
    returning: HashMap<&'w str, u16>,
}

impl<'w> Leaving<'w> {
    /// Of the services that were removed earlier, those whose slots are `pointed_to`.
    pub(super) fn new(before: &[Left], pointed_to: &HashSet<u16>) -> Leaving<'w> {
        let left: Vec<Left> = before.iter().filter(|left| pointed_to.contains(&left.slot)).cloned().collect();
        Leaving { reserved: left.iter().map(|left| left.slot).collect(), left, returning: HashMap::new() }
    }

    /// Which of them return: [`identity`] decides, as for services that were not removed.
    pub(super) fn find_returning(
        &mut self,
        services: &'w [VirtualServiceConfig],
        predecessors: &[Option<usize>],
    ) {
        if self.left.is_empty() {
            return;
        }
        let (left, slots): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.left).into_iter().map(|left| (left.config, left.slot)).unzip();
        let without = services.iter().zip(predecessors).filter(|(_, predecessor)| predecessor.is_none());
        let without: Vec<&VirtualServiceConfig> = without.map(|(service, _)| service).collect();
        let new: Vec<VirtualServiceConfig> = without.iter().map(|service| identity_of(service)).collect();
        let found = identity::predecessors(&left, &new);
        let returning: HashMap<usize, &str> = found
            .iter()
            .zip(without)
            .filter_map(|(index, service)| Some(((*index)?, &*service.name)))
            .collect();
        self.returning = returning.iter().map(|(index, name)| (*name, slots[*index])).collect();
        let stays =
            left.into_iter().zip(slots).enumerate().filter(|(index, _)| !returning.contains_key(index));
        self.left = stays.map(|(_, (config, slot))| Left { config, slot }).collect();
    }

    /// The slot of a service that returns.
    pub(super) fn slot_of(&self, service: &VirtualServiceConfig) -> Option<u16> {
        self.returning.get(service.name.as_str()).copied()
    }

    /// Whether no other service may get the slot.
    pub(super) fn is_reserved(&self, slot: u16) -> bool {
        self.reserved.contains(&slot)
    }

    /// Those that have not returned and those that have `gone`, if connections may still point to their real servers.
    pub(super) fn left<'a>(
        &mut self,
        gone: impl Iterator<Item = (&'a VirtualServiceConfig, u16)>,
        pointed_to: &HashSet<u16>,
    ) -> Vec<Left> {
        self.left.extend(gone.map(|(config, slot)| Left { config: identity_of(config), slot }));
        self.left.retain(|left| pointed_to.contains(&left.slot));
        std::mem::take(&mut self.left)
    }
}

/// What [`identity`] reads of a virtual service.
fn identity_of(service: &VirtualServiceConfig) -> VirtualServiceConfig {
    VirtualServiceConfig { real_servers: Vec::new(), ..service.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::scheduler;
    use crate::packet::Protocol;

    #[test]
    fn a_removed_service_is_remembered_while_connections_may_point_to_its_real_servers() {
        let service = |port: u16| {
            VirtualServiceConfig::new("", Protocol::Tcp, [172, 25, 3, 100].into(), port, scheduler::DEFAULT)
        };
        let before = [1, 2, 3].map(|slot| Left { config: service(slot), slot });
        let mut leaving = Leaving::new(&before, &HashSet::from([1, 2]));
        assert_eq!([1, 2, 3, 4].map(|slot| leaving.is_reserved(slot)), [true, true, false, false]);
        let (fourth, fifth) = (service(4), service(5));
        let left = leaving.left([(&fourth, 4), (&fifth, 5)].into_iter(), &HashSet::from([2, 3, 5]));
        assert_eq!(left.iter().map(|left| left.slot).collect::<Vec<_>>(), [2, 5]);
    }
}
