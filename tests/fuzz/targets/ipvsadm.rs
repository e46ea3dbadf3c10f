//! Text that a user feeds to `ipvsadm -R`, and to a director as its configuration: whatever it is, the answer is an
//! error that names the place, or a change that can be carried out or is refused, and what runs can be written.

use lvs_tund::config::{Source, plan};
use lvs_tund::control::ipvsadm::names::Numeric;
use lvs_tund::control::ipvsadm::restore;
use lvs_tund::control::operation::{Running, apply};
use lvs_tund::time::Moment;

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(error) = plan::director(&Source { name: "director.toml", text: &text }, Some("eth0")) {
        assert_eq!(error.to_string().lines().count(), 1, "one line: {error}");
    }
    let lines = match restore::parse(&text, &Numeric) {
        Ok(lines) => lines,
        Err(refusal) => return assert!(refusal.text.contains("nothing was changed"), "{}", refusal.text),
    };
    let mut running = Running::default();
    let mut all = Vec::new();
    for line in lines {
        let operations = [line.operation];
        match apply(&running, &operations, Moment::from_secs(1)) {
            Ok(applied) => {
                running = applied.running;
                all.extend(operations);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    // One by one or in one change, what runs afterwards is the same.
    let at_once = apply(&Running::default(), &all, Moment::from_secs(1)).expect("each of them was legal");
    assert_eq!(at_once.running.cluster, running.cluster);
}
