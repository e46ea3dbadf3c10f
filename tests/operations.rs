//! Changes of a running director's configuration, as a whole: what each operation does, what it is refused for,
//! and that several in one change do what they do one by one, or nothing at all.

use lvs_tund::config::consistency;
use lvs_tund::config::plan::ServiceDefaults;
use lvs_tund::control::Code;
use lvs_tund::control::model::{Operation, ServiceRef};
use lvs_tund::control::operation::{Running, Zeroed, apply, drain, selected};
use lvs_tund::director::cluster::{OnRemoved, UnknownTcp};
use lvs_tund::time::Moment;
use proptest::prelude::*;

#[path = "operations/completed.rs"]
mod completed;
#[path = "operations/generated.rs"]
mod generated;
#[path = "operations/model.rs"]
mod model;

use generated::{operation, operations};
use model::{Model, Refusal, Wiped};

const NOW: Moment = Moment::from_secs(7);

/// Nothing is served yet; services added later get what no default is.
fn bare() -> Running {
    let defaults = ServiceDefaults {
        unknown_tcp: Some(UnknownTcp::Drop),
        on_removed: OnRemoved::Keep,
        ..ServiceDefaults::default()
    };
    Running { defaults, hash_key: [9; 16], ..Running::default() }
}

fn changed(running: &Running, operations: &[Operation]) -> Result<(Running, Zeroed), Refusal> {
    let applied = apply(running, operations, NOW).map_err(|error| (error.code, error.operation))?;
    Ok((applied.running, applied.zeroed))
}

/// What can be seen of the outcome.
fn seen(outcome: &Result<(Running, Zeroed), Refusal>) -> Result<(Model, Wiped), Refusal> {
    let (running, zeroed) = outcome.as_ref().map_err(|refusal| *refusal)?;
    Ok((running.into(), zeroed.into()))
}

/// Operation by operation, each a change of its own; refused ones are not in the list.
fn one_by_one(operations: &[Operation]) -> (Running, Vec<Operation>) {
    let mut running = bare();
    let mut carried_out = Vec::new();
    for operation in operations {
        if let Ok((next, _)) = changed(&running, std::slice::from_ref(operation)) {
            running = next;
            carried_out.push(operation.clone());
        }
    }
    (running, carried_out)
}

/// Services "web" and "api" with "server1" and "server2".
fn served() -> Running {
    let service = |name: &str, port: u16| {
        format!(
            r#"{{"operation": "add_virtual_service", "virtual_service": {{"name": "{name}",
                "match": [{{"protocol": "tcp", "vip": "192.0.2.1", "port": {port}}}], "real_servers": [
                {{"rip": "10.0.0.1", "name": "server1", "weight": 3}},
                {{"rip": "10.0.0.2", "name": "server2", "weight": 4}}]}}}}"#
        )
    };
    changed(&bare(), &read(&[&service("web", 80), &service("api", 81)])).expect("a good change").0
}

fn read(json: &[&str]) -> Vec<Operation> {
    json.iter().map(|json| serde_json::from_str(json).unwrap_or_else(|e| panic!("{json}: {e}"))).collect()
}

/// The operations as they are, and behind so many others that services are found in another way.
fn short_and_long(json: &[&str]) -> [(usize, Vec<Operation>); 2] {
    let keep = r#"{"operation": "edit_virtual_service", "virtual_service": "web", "set": {}}"#;
    let long = [vec![keep; 16], json.to_vec()].concat();
    [(0, read(json)), (16, read(&long))]
}

#[test]
fn what_is_taken_is_refused_and_what_is_ones_own_is_not() {
    let add = |name: &str, port: u16| {
        format!(
            r#"{{"operation": "add_virtual_service", "virtual_service": {{"name": "{name}",
                "match": [{{"protocol": "tcp", "vip": "192.0.2.1", "port": {port}}}]}}}}"#
        )
    };
    let edit = |set: &str| {
        format!(r#"{{"operation": "edit_virtual_service", "virtual_service": "web", "set": {set}}}"#)
    };
    let port = |port: u16| {
        edit(&format!(r#"{{"match": [{{"protocol": "tcp", "vip": "192.0.2.1", "port": {port}}}]}}"#))
    };
    let server = |rip: &str, name: &str| {
        format!(
            r#"{{"operation": "add_real_server", "virtual_service": "web",
                "real_server": {{"rip": "{rip}", "name": "{name}"}}}}"#
        )
    };
    let rename = |name: &str| {
        format!(
            r#"{{"operation": "edit_real_server", "virtual_service": "web", "real_server": "server1",
                "set": {{"name": "{name}"}}}}"#
        )
    };
    let at_operation = |code| Err((code, true));
    let rows = [
        (add("new", 82), Ok(())),
        (add("new", 81), at_operation(Code::ServiceExists)),
        (add("api", 82), at_operation(Code::ServiceExists)),
        (edit(r#"{"name": "web"}"#), Ok(())),
        (edit(r#"{"name": "www"}"#), Ok(())),
        (edit(r#"{"name": "api"}"#), at_operation(Code::ServiceExists)),
        (port(80), Ok(())),
        (port(82), Ok(())),
        (port(81), at_operation(Code::ServiceExists)),
        (server("10.0.0.3", "server3"), Ok(())),
        (server("10.0.0.2", "server3"), at_operation(Code::RealServerExists)),
        (server("10.0.0.3", "server2"), at_operation(Code::RealServerExists)),
        (rename("server1"), Ok(())),
        (rename("server3"), Ok(())),
        // A later operation might have renamed the other one.
        (rename("server2"), Err((Code::Invalid, false))),
    ];
    for (json, expected) in rows {
        for (before, operations) in short_and_long(&[&json]) {
            let outcome = changed(&served(), &operations).map(|_| ());
            let expected = expected.map_err(|(code, is_at)| (code, is_at.then_some(before)));
            assert_eq!(outcome, expected, "{json} behind {before}");
        }
    }
}

#[test]
fn a_refusal_names_what_is_in_the_way_in_the_words_of_the_operation() {
    let rows = [
        (
            r#"{"operation": "add_real_server", "virtual_service": "web",
                "real_server": {"rip": "10.0.0.3", "name": "server2"}}"#,
            ["\"server2\"", "10.0.0.2"],
        ),
        (
            r#"{"operation": "add_virtual_service", "virtual_service": {"match": []}}"#,
            ["match:", "at least one"],
        ),
        (
            r#"{"operation": "edit_virtual_service", "virtual_service": "web", "set": {"match": []}}"#,
            ["match:", "at least one"],
        ),
    ];
    for (json, words) in rows {
        let error = apply(&served(), &read(&[json]), NOW).unwrap_err();
        assert!(words.iter().all(|word| error.message.contains(word)), "{json}: {error}");
    }
}

#[test]
fn a_name_given_up_is_free_and_leads_nowhere() {
    let rename = r#"{"operation": "edit_virtual_service", "virtual_service": "web", "set": {"name": "www",
        "match": [{"protocol": "tcp", "vip": "192.0.2.1", "port": 8080}]}}"#;
    let remove = r#"{"operation": "remove_virtual_service", "virtual_service": "web"}"#;
    let by_name = r#"{"operation": "zero", "virtual_service": "web"}"#;
    let by_matcher = r#"{"operation": "zero",
        "virtual_service": {"protocol": "tcp", "vip": "192.0.2.1", "port": 80}}"#;
    let again = r#"{"operation": "add_virtual_service", "virtual_service": {"name": "web",
        "match": [{"protocol": "tcp", "vip": "192.0.2.1", "port": 80}]}}"#;
    for gone in [rename, remove] {
        for found in [by_name, by_matcher] {
            for (before, operations) in short_and_long(&[gone, found]) {
                let expected = Err((Code::NoSuchService, Some(before + 1)));
                assert_eq!(changed(&served(), &operations), expected, "{gone} {found}");
            }
            for (_, operations) in short_and_long(&[gone, again, found]) {
                let zeroed = changed(&served(), &operations).map(|(_, zeroed)| zeroed);
                assert_eq!(zeroed, Ok(Zeroed::VirtualServices(vec!["web".to_owned()])), "{gone} {found}");
            }
        }
    }
}

#[test]
fn statistics_are_zeroed_of_the_services_that_are_named_and_still_there() {
    let zero = |name: &str| format!(r#"{{"operation": "zero", "virtual_service": "{name}"}}"#);
    let (web, api, all) = (&zero("web")[..], &zero("api")[..], r#"{"operation": "zero"}"#);
    let remove = r#"{"operation": "remove_virtual_service", "virtual_service": "api"}"#;
    let rename = r#"{"operation": "edit_virtual_service", "virtual_service": "web", "set": {"name": "www"}}"#;
    let flush = r#"{"operation": "flush"}"#;
    let of = |names: &[&str]| Zeroed::VirtualServices(names.iter().map(|name| (*name).to_owned()).collect());
    let rows: [(&[&str], Zeroed); 8] = [
        (&[], Zeroed::Nothing),
        (&[web], of(&["web"])),
        (&[web, api], of(&["web", "api"])),
        (&[web, api, remove], of(&["web"])),
        (&[api, remove], Zeroed::Nothing),
        (&[web, rename], of(&["www"])),
        (&[all, api], Zeroed::All),
        (&[web, flush], Zeroed::Nothing),
    ];
    for (json, expected) in rows {
        for (_, operations) in short_and_long(json) {
            let zeroed = changed(&served(), &operations).map(|(_, zeroed)| zeroed);
            assert_eq!(zeroed, Ok(expected.clone()), "{json:?}");
        }
    }
}

#[test]
fn a_change_of_one_service_leaves_the_drains_of_others() {
    let drain = r#"{"operation": "drain", "real_server": "server1", "timeout": 60, "then": "keep"}"#;
    let server1 = |operation: &str| {
        format!(r#"{{"operation": {operation}, "virtual_service": "web", "real_server": "server1""#)
    };
    let edit = |set: &str| format!(r#"{}, "set": {set}}}"#, server1("\"edit_real_server\""));
    let weigh = format!(r#"{}, "weight": 9}}"#, server1("\"set_weight\""));
    let [remove_server, undrain] =
        ["\"remove_real_server\"", "\"undrain\""].map(|operation| server1(operation) + "}");
    let rows = [
        (edit(r#"{"upper_threshold": 9, "name": "first"}"#), vec!["api 3", "web 3"]),
        (edit(r#"{"weight": 9}"#), vec!["api 3"]),
        (weigh, vec!["api 3"]),
        (remove_server, vec!["api 3"]),
        (undrain, vec!["api 3"]),
        (
            r#"{"operation": "edit_virtual_service", "virtual_service": "web", "set": {"name": "www"}}"#.into(),
            vec!["api 3", "www 3"],
        ),
        (
            r#"{"operation": "edit_virtual_service", "virtual_service": "web", "set": {"one_packet": false}}"#.into(),
            vec!["api 3", "web 3"],
        ),
        (r#"{"operation": "remove_virtual_service", "virtual_service": "web"}"#.into(), vec!["api 3"]),
        (drain.into(), vec!["api 3", "web 3"]),
        (r#"{"operation": "flush"}"#.into(), vec![]),
    ];
    for (json, expected) in rows {
        for (_, operations) in short_and_long(&[drain, &json]) {
            let running = changed(&served(), &operations).expect("a good change").0;
            // What an undrain gives back.
            let weight = |service: &str, rip| {
                let service = running.cluster.virtual_services.iter().find(|s| s.name == service)?;
                service.real_servers.iter().find(|server| server.rip == rip).map(|server| server.weight)
            };
            let drains = running.states.iter().map(|(name, rip, _)| {
                format!("{name} {}", weight(name, rip).expect("because it is configured"))
            });
            assert_eq!(drains.collect::<Vec<_>>(), expected, "{json}");
        }
    }
}

#[test]
fn a_drain_that_ends_takes_the_real_server_out_of_its_service_alone() {
    let drain = |service: &str, then: &str| {
        format!(
            r#"{{"operation": "drain", "virtual_service": "{service}", "real_server": "server1", "timeout": 60,
                "then": "{then}"}}"#
        )
    };
    let operations = read(&[&drain("api", "remove"), &drain("web", "keep")]);
    let running = changed(&served(), &operations).expect("a good change").0;
    let is_empty = |service: &str, _| service == "api";
    let (next, ended) = drain::finish(&running, is_empty, NOW).expect("an end");
    assert_eq!(ended.iter().map(|drained| &drained.virtual_service).collect::<Vec<_>>(), ["api"]);
    let names = |name: &str| -> Vec<String> {
        let there = next.states.without_removed(&next.cluster);
        let service = there.virtual_services.iter().find(|service| service.name == name).cloned();
        service.iter().flat_map(|s| &s.real_servers).map(|server| server.name.clone()).collect()
    };
    assert_eq!(
        (names("web"), names("api")),
        (vec!["server1".into(), "server2".into()], vec!["server2".into()])
    );
    let states = next.states.iter().map(|(service, _, state)| format!("{service} {}", state.word()));
    assert_eq!(states.collect::<Vec<_>>(), ["api removed", "web draining"]);
    assert_eq!(next.cluster, running.cluster, "what is configured stays");
}

proptest! {
    #[test]
    fn an_operation_does_what_the_model_does_or_is_refused_as_the_model_refuses(operations in operations(40)) {
        let mut running = bare();
        for operation in operations {
            let operation = [operation];
            let outcome = changed(&running, &operation);
            prop_assert_eq!(seen(&outcome), Model::from(&running).after(&operation, NOW), "{:?}", &operation);
            if let Ok((next, _)) = outcome {
                running = next;
            }
        }
    }

    /// From sixteen operations on, services are found in another way.
    #[test]
    fn one_change_does_what_the_model_does_with_its_operations(operations in operations(80)) {
        let (running, carried_out) = one_by_one(&operations);
        let together = changed(&bare(), &carried_out);
        prop_assert_eq!(seen(&together), Model::from(&bare()).after(&carried_out, NOW));
        prop_assert_eq!(together.map(|(running, _)| running), Ok(running));
    }

    #[test]
    fn a_change_is_refused_for_the_first_operation_that_the_model_refuses(operations in operations(60)) {
        let (_, carried_out) = one_by_one(&operations);
        let good = operations.iter().zip(&carried_out).take_while(|(a, b)| a == b).count();
        let until_refused = &operations[..operations.len().min(good + 1)];
        let expected = Model::from(&bare()).after(until_refused, NOW);
        prop_assert_eq!(seen(&changed(&bare(), until_refused)), expected);
        prop_assert_eq!(seen(&changed(&bare(), &operations)), Model::from(&bare()).after(&operations, NOW));
    }

    #[test]
    fn what_comes_out_is_consistent_and_what_drains_gets_nothing_new(operations in operations(60)) {
        let (running, _) = one_by_one(&operations);
        prop_assert_eq!(consistency::check(&running.cluster.virtual_services), Ok(()));
        for (service, rip, _) in running.states.iter() {
            let found = running.cluster.virtual_services.iter().find(|s| s.name == *service).unwrap();
            let server = found.real_servers.iter().find(|s| s.rip == rip).unwrap();
            let in_force = running.in_force();
            let seen = in_force.weights.get(service).and_then(|weights| weights.get(&rip)).copied();
            prop_assert_eq!(seen.unwrap_or(Some(server.weight.into())), Some(0.into()));
        }
    }

    #[test]
    fn an_operation_survives_its_json(operation in operation()) {
        let json = serde_json::to_string(&operation).unwrap();
        prop_assert_eq!(serde_json::from_str::<Operation>(&json).unwrap(), operation);
    }
}

/// An added real server takes the place of a removed one with its RIP or its name, and of no other; the name of the
/// one with its RIP is its own again unless it requires another.
#[test]
fn an_added_server_takes_the_place_of_a_removed_one() {
    let drain = |server: &str| {
        format!(
            r#"{{"operation": "drain", "virtual_service": "web", "real_server": "{server}", "then": "remove"}}"#
        )
    };
    let operations = read(&[&drain("server1"), &drain("server2")]);
    let drained = changed(&served(), &operations).expect("a good change").0;
    let (removed, ended) = drain::finish(&drained, |_, _| true, NOW).expect("an end");
    assert_eq!(ended.len(), 2);
    type Row = (&'static str, Vec<(&'static str, &'static str, &'static str)>);
    let (first, second) = (("10.0.0.1", "server1", "removed"), ("10.0.0.2", "server2", "removed"));
    let rows: [Row; 5] = [
        (r#"{"rip": "10.0.0.1"}"#, vec![second, ("10.0.0.1", "server1", "active")]),
        (r#"{"rip": "10.0.0.1", "name": "fresh"}"#, vec![second, ("10.0.0.1", "fresh", "active")]),
        (r#"{"rip": "10.0.0.9", "name": "server1"}"#, vec![second, ("10.0.0.9", "server1", "active")]),
        (r#"{"rip": "10.0.0.9"}"#, vec![first, second, ("10.0.0.9", "10.0.0.9", "active")]),
        (r#"{"rip": "10.0.0.2", "name": "server1"}"#, vec![("10.0.0.2", "server1", "active")]),
    ];
    for (server, expected) in rows {
        let add = format!(
            r#"{{"operation": "add_real_server", "virtual_service": "web", "real_server": {server}}}"#
        );
        let running = changed(&removed, &read(&[&add])).expect("a good change").0;
        let service = &running.cluster.virtual_services[0];
        let seen: Vec<(String, String, &str)> = service
            .real_servers
            .iter()
            .map(|s| (s.rip.to_string(), s.name.clone(), running.states.of("web", s.rip).word()))
            .collect();
        let seen: Vec<(&str, &str, &str)> =
            seen.iter().map(|(rip, name, state)| (rip.as_str(), name.as_str(), *state)).collect();
        assert_eq!(seen, expected, "{server}");
    }
}

#[test]
fn what_is_running_is_the_same_if_all_that_can_be_seen_is() {
    let drain =
        r#"{"operation": "drain", "virtual_service": "web", "real_server": "server1", "then": "keep"}"#;
    let (one, drained) = (served(), changed(&served(), &read(&[drain])).expect("a good change").0);
    assert!(one.is_same(&served()));
    let others = [
        bare(),
        Running { defaults: ServiceDefaults::default(), ..one.clone() },
        Running { hash_key: [8; 16], ..one.clone() },
        drained,
    ];
    for other in others {
        assert!(!one.is_same(&other) && !other.is_same(&one), "{other:?}");
    }
}

#[test]
fn a_selection_is_of_a_service_of_a_real_server_or_of_all() {
    let running = served();
    let web = || Some(ServiceRef::Name("web".to_owned()));
    let of = |service: Option<ServiceRef>, server: Option<&str>| {
        selected(&running, service.as_ref(), server).map_err(|error| error.code)
    };
    let rip = |last: u8| Some([10, 0, 0, last].into());
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(of(None, None), Ok(vec![(None, None)]));
    assert_eq!(of(web(), None), Ok(vec![(name("web"), None)]));
    assert_eq!(of(web(), Some("server2")), Ok(vec![(name("web"), rip(2))]));
    assert_eq!(of(None, Some("10.0.0.1")), Ok(vec![(name("web"), rip(1)), (name("api"), rip(1))]));
    assert_eq!(of(None, Some("server9")), Err(Code::NoSuchRealServer));
    assert_eq!(of(web(), Some("server9")), Err(Code::NoSuchRealServer));
    assert_eq!(of(Some(ServiceRef::Name("nosuch".to_owned())), None), Err(Code::NoSuchService));
}
