//! What is reported to hooks with `at_stop` at the end of the director: everything that is up goes down.

use std::collections::HashMap;

use super::Subject;
use crate::director::cluster::{ClusterConfig, RealServerConfig, VirtualServiceConfig};
use crate::health::judge::Event;
use crate::health::{Cause, View};

/// The real servers and the virtual services that are up, unless the last report was that they are down. A virtual
/// service without a report is one of them: another run of the director may have left something behind.
pub(super) fn of(config: &ClusterConfig, view: &View, told: &HashMap<Subject, bool>) -> Vec<Event> {
    let mut events = Vec::new();
    for service in &config.virtual_services {
        let is_up = |server: &&RealServerConfig| {
            let is_down = || view.real_server(&service.name, server.rip).is_some_and(|it| it.is_down());
            told.get(&(service.name.clone(), Some(server.rip))).copied().unwrap_or_else(|| !is_down())
        };
        events.extend(service.real_servers.iter().filter(is_up).map(|server| down(service, server)));
        if told.get(&(service.name.clone(), None)).copied().unwrap_or(true) {
            events.push(Event::QuorumLost { service: service.name.clone(), cause: Cause::Stop });
        }
    }
    events
}

fn down(service: &VirtualServiceConfig, server: &RealServerConfig) -> Event {
    Event::Down {
        service: service.name.clone(),
        real_server: server.name.clone(),
        rip: server.rip,
        why: "the director stops".to_owned(),
        cause: Cause::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::{RIPS, config, view};
    use super::*;

    fn lasts(told: &[(Option<usize>, bool)]) -> Vec<String> {
        let told = told.iter().map(|(at, is_good)| (("web".to_owned(), at.map(|at| RIPS[at])), *is_good));
        let short = |event: &Event| match event {
            Event::Down { rip, cause, .. } => format!("{rip} {cause}"),
            Event::QuorumLost { service, cause } => format!("{service} {cause}"),
            other => format!("{other:?}"),
        };
        of(&config(), &view(), &told.collect()).iter().map(short).collect()
    }

    #[test]
    fn what_is_up_goes_down_at_the_end_and_nothing_is_reported_twice() {
        let all = ["172.25.3.3 stop", "172.25.3.4 stop", "web stop"];
        assert_eq!(lasts(&[]), all, "the first one is down");
        assert_eq!(lasts(&[(Some(0), false), (Some(1), true), (None, true)]), all);
        assert_eq!(lasts(&[(Some(1), false), (None, false)]), ["172.25.3.4 stop"]);
        assert_eq!(lasts(&[(Some(0), true)])[0], "172.25.3.2 stop", "it was not reported down");
    }
}
