//! Does a director run on this host?

use crate::doctor::facts::Director;
use crate::doctor::finding::Finding;

pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    let finding = match &facts.running {
        Ok(running) => Finding::ok(format!(
            "director version {} is running, generation {}",
            running.version, running.generation
        )),
        Err(why) if facts.has_device() => Finding::warning(
            format!("{} exists, but no director answers: {why}", facts.plan.tun),
            format!("lvs-tund doctor director --config {} --control PATH", facts.file),
        ),
        Err(why) => Finding::error(why.clone(), format!("lvs-tund director --config {}", facts.file)),
    };
    vec![finding]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn a_director_that_does_not_run_is_an_error_and_one_that_does_not_answer_a_warning() {
        let mut facts = bed::director("");
        assert_eq!(examine(&facts), [Finding::ok("director version 0.1.0 is running, generation 3")]);
        facts.running = Err("no director is running at /run/x: why".into());
        assert_eq!(
            examine(&facts),
            [Finding::warning(
                "lvsd0 exists, but no director answers: no director is running at /run/x: why",
                "lvs-tund doctor director --config director.toml --control PATH"
            )]
        );
        facts.host.interfaces.truncate(1);
        assert_eq!(
            examine(&facts),
            [Finding::error(
                "no director is running at /run/x: why",
                "lvs-tund director --config director.toml"
            )]
        );
    }
}
