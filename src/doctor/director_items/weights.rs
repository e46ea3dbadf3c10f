//! Does each virtual service have a real server that gets new connections?

use super::health;
use crate::doctor::facts::{Director, Weights};
use crate::doctor::finding::Finding;

pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    if facts.weights.is_empty() {
        let remedy = format!("lvs-tund check {}   # then add a [[virtual_service]]", facts.file);
        return vec![Finding::warning("there is no virtual service", remedy)];
    }
    facts.weights.iter().map(|weights| of(facts, weights)).collect()
}

fn of(facts: &Director, Weights { service, servers }: &Weights) -> Finding {
    let usable = servers.iter().filter(|(_, weight)| *weight > 0).count();
    match servers.first() {
        None => Finding::error(
            format!("virtual service {service} has no real server: its clients are refused"),
            format!("lvs-tund check {}   # then add a [[virtual_service.real_server]]", facts.file),
        ),
        Some((name, _)) if usable == 0 => Finding::error(
            format!(
                "all real servers of virtual service {service} have weight 0: new connections are refused"
            ),
            match health::has_down(facts) {
                true => "lvs-tund status   # shows why their checks fail".to_owned(),
                false => format!("lvs-tund weight {name} 1"),
            },
        ),
        Some(_) => Finding::ok(format!(
            "{usable} of {} real servers of virtual service {service} get new connections",
            servers.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;
    use crate::doctor::facts::Reported;
    use crate::trouble::TroubleKind;

    #[test]
    fn a_virtual_service_without_a_usable_real_server_is_an_error() {
        let mut facts = bed::director("");
        facts.weights[0].servers.push(("server3".into(), 0));
        let usable = "1 of 2 real servers of virtual service web get new connections";
        assert_eq!(examine(&facts), [Finding::ok(usable)]);
        facts.weights[0].servers[0].1 = 0;
        assert_eq!(
            examine(&facts),
            [Finding::error(
                "all real servers of virtual service web have weight 0: new connections are refused",
                "lvs-tund weight server2 1"
            )]
        );
        let down = Reported { kind: TroubleKind::RealServerDown, message: "it is down; start it".to_owned() };
        facts.host.reported = Some(vec![down]);
        assert_eq!(
            examine(&facts),
            [Finding::error(
                "all real servers of virtual service web have weight 0: new connections are refused",
                "lvs-tund status   # shows why their checks fail"
            )]
        );
        facts.weights[0].servers.clear();
        assert_eq!(
            examine(&facts),
            [Finding::error(
                "virtual service web has no real server: its clients are refused",
                "lvs-tund check director.toml   # then add a [[virtual_service.real_server]]"
            )]
        );
        facts.weights.clear();
        let remedy = "lvs-tund check director.toml   # then add a [[virtual_service]]";
        assert_eq!(examine(&facts), [Finding::warning("there is no virtual service", remedy)]);
    }
}
