//! Changes of a running director's configuration, as a whole: several operations in one change do what they
//! do one by one, and a change that is refused has done nothing.

use std::net::{IpAddr, Ipv4Addr};

use lvs_tund::config::plan::{self, DirectorPlan};
use lvs_tund::config::{Source, consistency, diff, write};
use lvs_tund::control::model::{
    Matcher, Operation, Port, Protocol, RealServerEdit, RealServerSpec, Seconds, ServiceRef, Then,
    TimeoutsSpec, VirtualServiceEdit, VirtualServiceSpec,
};
use lvs_tund::control::operation::{Running, apply};
use lvs_tund::time::Moment;
use proptest::prelude::*;

const NOW: Moment = Moment::from_secs(7);

/// Few enough that operations meet.
fn matcher() -> impl Strategy<Value = Matcher> {
    let port = prop_oneof![Just("80"), Just("443"), Just("all")];
    (0u8..3, prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)], port).prop_map(|(vip, protocol, port)| {
        Matcher { protocol, vip: Ipv4Addr::new(192, 0, 2, vip + 1).into(), port: Port(port.parse().unwrap()) }
    })
}

fn rip() -> impl Strategy<Value = IpAddr> {
    (1u8..5).prop_map(|last| Ipv4Addr::new(10, 0, 0, last).into())
}

fn service() -> impl Strategy<Value = ServiceRef> {
    let name = prop_oneof![Just("web"), Just("api"), Just("tcp-192.0.2.1-80")];
    prop_oneof![
        matcher().prop_map(ServiceRef::Matcher),
        name.prop_map(|name| ServiceRef::Name(name.to_owned()))
    ]
}

fn spec() -> impl Strategy<Value = VirtualServiceSpec> {
    let name = prop_oneof![Just(None), Just(Some("web".to_owned())), Just(Some("api".to_owned()))];
    let servers = proptest::collection::vec(rip().prop_map(RealServerSpec::new), 0..3);
    (name, matcher(), servers).prop_map(|(name, matcher, real_servers)| VirtualServiceSpec {
        name,
        matchers: vec![matcher],
        real_servers,
        ..VirtualServiceSpec::default()
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let scheduler = prop_oneof![Just("rr"), Just("mh"), Just("wlc"), Just("nosuch")];
    let weight = prop_oneof![4 => 0u32..10, 1 => Just(70_000u32)];
    prop_oneof![
        4 => spec().prop_map(|virtual_service| Operation::AddVirtualService { virtual_service }),
        2 => (service(), scheduler).prop_map(|(virtual_service, scheduler)| Operation::EditVirtualService {
            virtual_service,
            set: VirtualServiceEdit { scheduler: Some(scheduler.to_owned()), ..VirtualServiceEdit::default() },
        }),
        1 => service().prop_map(|virtual_service| Operation::RemoveVirtualService { virtual_service }),
        4 => (service(), rip()).prop_map(|(virtual_service, rip)| Operation::AddRealServer {
            virtual_service,
            real_server: RealServerSpec::new(rip),
        }),
        1 => (service(), rip()).prop_map(|(virtual_service, rip)| Operation::RemoveRealServer {
            virtual_service,
            real_server: rip.to_string(),
        }),
        1 => (service(), rip()).prop_map(|(virtual_service, rip)| Operation::EditRealServer {
            virtual_service,
            real_server: rip.to_string(),
            set: RealServerEdit { upper_threshold: Some(9), ..RealServerEdit::default() },
        }),
        2 => (proptest::option::of(service()), rip(), weight).prop_map(|(virtual_service, rip, weight)| {
            Operation::SetWeight { virtual_service, real_server: rip.to_string(), weight }
        }),
        2 => (proptest::option::of(service()), rip()).prop_map(|(virtual_service, rip)| Operation::Drain {
            virtual_service,
            real_server: rip.to_string(),
            timeout: Some(Seconds::new(60)),
            then: Then::Keep,
        }),
        1 => (proptest::option::of(service()), rip()).prop_map(|(virtual_service, rip)| Operation::Undrain {
            virtual_service,
            real_server: rip.to_string(),
        }),
        1 => (1u64..100).prop_map(|seconds| Operation::SetTimeouts {
            timeouts: TimeoutsSpec { udp: Some(Seconds::new(seconds)), ..TimeoutsSpec::default() },
        }),
        1 => Just(Operation::Flush {}),
        1 => Just(Operation::Zero { virtual_service: None }),
    ]
}

/// Operation by operation, each a change of its own; the refused ones are left out.
fn one_by_one(operations: &[Operation]) -> (Running, Vec<Operation>) {
    let mut running = Running::default();
    let mut carried_out = Vec::new();
    for operation in operations {
        if let Ok(applied) = apply(&running, std::slice::from_ref(operation), NOW) {
            running = applied.running;
            carried_out.push(operation.clone());
        }
    }
    (running, carried_out)
}

fn read(text: &str) -> DirectorPlan {
    plan::director(&Source { name: "written", text }, None).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The plan of a configuration in force.
fn plan_of(running: Running) -> DirectorPlan {
    let bare = read("interface = \"eth0\"");
    DirectorPlan { cluster: (*running.cluster).clone(), defaults: running.defaults, ..bare }
}

proptest! {
    #[test]
    fn a_configuration_survives_its_text(operations in proptest::collection::vec(operation(), 0..40)) {
        let plan = plan_of(one_by_one(&operations).0);
        prop_assert_eq!(read(&write::director(&plan)), plan);
    }

    #[test]
    fn a_reload_takes_over_what_the_file_says_anew_and_nothing_else(
        before in proptest::collection::vec(operation(), 0..30),
        by_hand in proptest::collection::vec(operation(), 0..10),
        edited in proptest::collection::vec(operation(), 0..10),
    ) {
        let extended = |more: &[Operation]| {
            one_by_one(&[&before[..], more].concat()).0.cluster
        };
        let (base, in_force, file) = (extended(&[]), extended(&by_hand), extended(&edited));
        prop_assert_eq!(&diff::merge(&base, &base, &in_force), &*in_force);
        // Nothing was done by hand: the file it is, if in another order.
        let merged = diff::merge(&base, &file, &base);
        prop_assert_eq!(diff::clusters(&file, &merged), vec![]);
        prop_assert_eq!(merged.virtual_services.len(), file.virtual_services.len());
    }

    #[test]
    fn one_change_does_what_its_operations_do_one_by_one(
        operations in proptest::collection::vec(operation(), 0..40)
    ) {
        let (expected, carried_out) = one_by_one(&operations);
        prop_assert_eq!(apply(&Running::default(), &carried_out, NOW).unwrap().running, expected);
    }

    #[test]
    fn the_first_refusal_is_the_changes_and_it_is_at_the_same_operation(
        operations in proptest::collection::vec(operation(), 0..40)
    ) {
        let (_, carried_out) = one_by_one(&operations);
        let first = operations.iter().zip(&carried_out).take_while(|(a, b)| a == b).count();
        let together = apply(&Running::default(), &operations, NOW);
        match operations.get(first) {
            None => prop_assert!(together.is_ok()),
            Some(refused) => {
                let (before, _) = one_by_one(&operations[..first]);
                let alone = apply(&before, std::slice::from_ref(refused), NOW).unwrap_err();
                // What cannot stand side by side is seen at the end only; later operations may have put it right.
                if alone.operation.is_some() {
                    let error = together.unwrap_err();
                    prop_assert_eq!((error.code, error.operation), (alone.code, Some(first)));
                }
            }
        }
    }

    #[test]
    fn what_comes_out_is_consistent_and_drains_are_of_real_servers_that_get_nothing_new(
        operations in proptest::collection::vec(operation(), 0..60)
    ) {
        let (running, _) = one_by_one(&operations);
        prop_assert_eq!(consistency::check(&running.cluster.virtual_services), Ok(()));
        for (service, rip, _) in running.states.iter() {
            let found = running.cluster.virtual_services.iter().find(|s| s.name == *service).unwrap();
            prop_assert!(found.real_servers.iter().any(|s| s.rip == rip));
            prop_assert_eq!(running.in_force().weights[service][&rip], Some(0));
        }
    }

    #[test]
    fn an_operation_survives_its_json(operation in operation()) {
        let json = serde_json::to_string(&operation).unwrap();
        prop_assert_eq!(serde_json::from_str::<Operation>(&json).unwrap(), operation);
    }
}
