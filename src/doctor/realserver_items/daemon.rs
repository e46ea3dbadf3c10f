//! Does the real server's daemon run on this host?

use crate::doctor::facts::Realserver;
use crate::doctor::finding::Finding;

pub(super) fn examine(facts: &Realserver) -> Vec<Finding> {
    let (tun, metrics) = (&facts.plan.tun, facts.plan.metrics);
    let finding = match (&facts.host.metrics, facts.has_device()) {
        (Some(_), _) => Finding::ok(format!("the daemon answers on {metrics}")),
        (None, true) => Finding::warning(
            format!("{tun} exists, but no daemon serves metrics on {metrics}"),
            format!("lvs-tund check {}   # metrics must be the running daemon's address", facts.file),
        ),
        (None, false) => Finding::error(
            "no real server daemon is running: this host drops encapsulated packets",
            facts.command.clone(),
        ),
    };
    vec![finding]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn a_daemon_that_does_not_run_is_an_error_and_one_that_does_not_answer_a_warning() {
        let mut facts = bed::realserver("");
        assert_eq!(examine(&facts), [Finding::ok("the daemon answers on 127.0.0.1:9691")]);
        facts.host.metrics = None;
        assert_eq!(
            examine(&facts),
            [Finding::warning(
                "lvsr0 exists, but no daemon serves metrics on 127.0.0.1:9691",
                "lvs-tund check realserver.toml   # metrics must be the running daemon's address"
            )]
        );
        facts.host.interfaces.truncate(1);
        assert_eq!(
            examine(&facts),
            [Finding::error(
                "no real server daemon is running: this host drops encapsulated packets",
                "lvs-tund realserver --config realserver.toml"
            )]
        );
    }
}
