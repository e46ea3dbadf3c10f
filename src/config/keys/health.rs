//! What a virtual service makes of its checks: the keys in addition to `check`, at the top of the file and of a virtual service.

use super::real_server::WEIGHT_MAX;
use crate::config::json::{Agreement as JsonAgreement, OnDown as JsonOnDown};
use crate::config::kinds::{Number, Span, Words};
use crate::health::{Agreement, OnDown, ServiceHealth};

/// The words of `check_agreement`.
pub const AGREEMENT: Words<Agreement, JsonAgreement> =
    Words::new(&[("all", Agreement::All), ("any", Agreement::Any)]);
/// The words of `on_down`.
pub const ON_DOWN: Words<OnDown, JsonOnDown> =
    Words::new(&[("quiesce", OnDown::Quiesce), ("drain", OnDown::Drain), ("remove", OnDown::Remove)]);
/// A sum of weights.
pub const WEIGHTS: Number<u32> = Number::new(0..=WEIGHT_MAX as i64);
/// A number of real servers.
pub const SERVERS: Number<u32> = Number::new(0..=65_535);
/// Up to a day.
pub const SLOW_START: Span = Span::new(0, 86_400_000);

// Every field has a row, here and at the top.
const _: fn(&ServiceHealth) = |ServiceHealth {
                                   checks: _,
                                   agreement: _,
                                   on_down: _,
                                   quorum: _,
                                   hysteresis: _,
                                   min_healthy: _,
                                   slow_start: _,
                               }| {};

/// Checks keys that are valid on their own but may not fit together.
///
/// # Errors
/// The key, and a sentence.
pub fn check(health: &ServiceHealth) -> Result<(), (&'static str, String)> {
    let (quorum, hysteresis) = (health.quorum, health.hysteresis);
    if hysteresis == 0 || hysteresis < quorum {
        return Ok(());
    }
    let message = match quorum {
        0 => {
            format!("hysteresis = {hysteresis}: is for a quorum; set quorum to a larger number, or remove it")
        }
        _ => format!("hysteresis = {hysteresis}: expected less than quorum, which is {quorum}"),
    };
    Err(("hysteresis", message))
}

/// Keys from the file and keys set by command may not fit together: then those of the file apply.
pub fn reconcile(file: &ServiceHealth, next: &mut ServiceHealth) {
    if check(next).is_err() {
        (next.quorum, next.hysteresis) = (file.quorum, file.hysteresis);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(quorum: u32, hysteresis: u32) -> ServiceHealth {
        ServiceHealth { quorum, hysteresis, ..ServiceHealth::default() }
    }

    #[test]
    fn hysteresis_is_less_than_quorum() {
        for (quorum, hysteresis, is_valid) in [
            (0, 0, true),
            (7, 0, true),
            (7, 6, true),
            (7, 7, false),
            (1, 1, false),
            (0, 1, false),
            (2, 9, false),
        ] {
            let found = check(&health(quorum, hysteresis));
            assert_eq!(found.is_ok(), is_valid, "{quorum} {hysteresis}: {found:?}");
        }
        assert!(check(&health(0, 1)).unwrap_err().1.contains("is for a quorum"));
        assert!(check(&health(2, 9)).unwrap_err().1.contains("which is 2"));
    }

    #[test]
    fn a_quorum_by_command_yields_to_the_file_if_the_two_do_not_fit() {
        let file = health(5, 3);
        let mut next = health(2, 3);
        reconcile(&file, &mut next);
        assert_eq!(next, file);
        let mut next = health(9, 3);
        reconcile(&file, &mut next);
        assert_eq!(next, health(9, 3));
    }
}
