//! Changes of a running director's configuration, as a whole: what each operation does, what it is refused for,
//! and that several in one change do what they do one by one, or nothing at all.

use lvs_tund::config::consistency;
use lvs_tund::config::plan::ServiceDefaults;
use lvs_tund::control::model::Operation;
use lvs_tund::control::operation::{Running, Zeroed, apply};
use lvs_tund::director::cluster::{OnRemoved, UnknownTcp};
use lvs_tund::time::Moment;
use proptest::prelude::*;

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

/// Operation by operation, each a change of its own; the refused ones are left out.
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

proptest! {
    #[test]
    fn an_operation_does_what_the_model_says_or_is_refused_as_it_says(operations in operations(40)) {
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
    fn one_change_does_what_the_model_says_of_its_operations(operations in operations(80)) {
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
    fn what_comes_out_is_consistent_and_drains_are_of_quiesced_real_servers(operations in operations(60)) {
        let (running, _) = one_by_one(&operations);
        prop_assert_eq!(consistency::check(&running.cluster.virtual_services), Ok(()));
        for (service, rip) in running.drains.keys() {
            let found = running.cluster.virtual_services.iter().find(|s| s.name == *service).unwrap();
            prop_assert!(found.real_servers.iter().any(|s| s.rip == *rip && s.weight == 0));
        }
    }

    #[test]
    fn an_operation_survives_its_json(operation in operation()) {
        let json = serde_json::to_string(&operation).unwrap();
        prop_assert_eq!(serde_json::from_str::<Operation>(&json).unwrap(), operation);
    }
}
