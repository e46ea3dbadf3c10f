//! Tests with real programs.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::message::tests::{config, down, view};
use super::*;
use crate::health::Cause;
use crate::health::check::Command;

/// A hook that runs a script, and the file that the script may write to as `$1`.
fn hook(directory: &TempDir, script: &str) -> (Hook, PathBuf) {
    let file = directory.path().join("out");
    let arguments = ["/bin/sh", "-c", script, "hook", file.to_str().unwrap()].map(str::to_owned).to_vec();
    let command = Command { arguments, user: None, group: None };
    let timeout = Duration::from_secs(20);
    let hook =
        Hook { when: Vec::new(), virtual_service: None, real_server: None, command, timeout, at_stop: false };
    (hook, file)
}

async fn wait_for(file: &Path, is_there: impl Fn(&str) -> bool) -> String {
    for _ in 0..1000 {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if is_there(&text) {
            return text;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", std::fs::read_to_string(file));
}

#[tokio::test]
async fn a_hook_gets_the_change_on_its_input_and_in_its_environment() {
    let directory = tempfile::tempdir().unwrap();
    let (hook, file) = hook(&directory, "cat > $1; echo $LVS_TUND_EVENT $LVS_TUND_RIP $LVS_TUND_WHY >> $1");
    let mut hooks = Hooks::new(Starter::new().unwrap());
    hooks.follow(std::slice::from_ref(&hook));
    hooks.tell(When::RealServerDown, down("refused"));
    let text = wait_for(&file, |text| text.lines().count() == 2).await;
    let (json, words) = text.split_once('\n').unwrap();
    assert_eq!(json.as_bytes(), down("refused").json().trim_ascii_end());
    assert_eq!(words, "real_server_down 172.25.3.2 refused\n");
}

#[tokio::test]
async fn changes_are_told_one_after_the_other_in_their_order_and_none_to_a_hook_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let script = "test -e $1.lock && echo overlap >> $1; : > $1.lock; sleep 0.02; echo $LVS_TUND_WHY >> $1; rm $1.lock";
    let (hook, file) = hook(&directory, script);
    let hook = Hook { when: vec![When::RealServerDown], ..hook };
    let mut hooks = Hooks::new(Starter::new().unwrap());
    hooks.follow(std::slice::from_ref(&hook));
    for number in 0..10 {
        hooks.tell(When::RealServerDown, down(&number.to_string()));
        hooks.tell(When::QuorumLost, down("other"));
    }
    // The same hook keeps what waits, and so does one that no longer exists.
    hooks.follow(std::slice::from_ref(&hook));
    hooks.follow(&[]);
    let text = wait_for(&file, |text| text.lines().count() >= 10).await;
    assert_eq!(text, "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
}

#[tokio::test]
async fn the_programs_that_run_get_sigterm_when_the_daemon_stops() {
    let directory = tempfile::tempdir().unwrap();
    let (hook, file) = hook(
        &directory,
        "trap 'echo ended >> $1; exit 0' TERM; echo begun >> $1; while :; do sleep 0.01; done",
    );
    let mut hooks = Hooks::new(Starter::new().unwrap());
    hooks.follow(std::slice::from_ref(&hook));
    (0..3).for_each(|_| hooks.tell(When::RealServerDown, down("")));
    wait_for(&file, |text| text == "begun\n").await;
    hooks.stop(&config(), &view(), 0.0).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "begun\nended\n", "what waits is not run");
}

/// Writes each state with its cause.
const TOLD: &str = "sleep 0.05; echo $LVS_TUND_EVENT $LVS_TUND_RIP $LVS_TUND_CAUSE >> $1";

fn lost(cause: Cause) -> Event {
    Event::QuorumLost { service: "web".to_owned(), cause }
}

#[tokio::test]
async fn a_hook_with_at_stop_runs_for_what_waits_and_then_for_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (hook, file) = hook(&directory, TOLD);
    let hook = Hook { when: vec![When::QuorumLost, When::RealServerDown], at_stop: true, ..hook };
    let other = Hook { at_stop: false, ..hook.clone() };
    let mut hooks = Hooks::new(Starter::new().unwrap());
    hooks.follow(&[hook]);
    let gained = Event::QuorumGained { service: "web".to_owned(), cause: Cause::Start };
    for event in [gained.clone(), lost(Cause::Change), gained] {
        hooks.report(&event, &config(), &view(), 0.0);
    }
    hooks.stop(&config(), &view(), 0.0).await;
    let told = "quorum_lost change\nreal_server_down 172.25.3.3 stop\nreal_server_down 172.25.3.4 stop\n\
                quorum_lost stop\n";
    assert_eq!(std::fs::read_to_string(&file).unwrap(), told);

    let mut hooks = Hooks::new(Starter::new().unwrap());
    hooks.follow(&[other]);
    hooks.stop(&config(), &view(), 0.0).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), told, "it does not want it");
}

#[tokio::test]
async fn what_was_told_last_is_not_told_again_at_the_end_unless_it_was_of_another_service() {
    for (name, expected) in [("web", ""), ("shop", "quorum_lost stop\n")] {
        let directory = tempfile::tempdir().unwrap();
        let (hook, file) = hook(&directory, "cat > $1.first");
        let mut hooks = Hooks::new(Starter::new().unwrap());
        hooks.follow(&[Hook { when: vec![When::QuorumLost], ..hook.clone() }]);
        hooks.report(&lost(Cause::Change), &config(), &view(), 0.0);
        hooks.keep(&[name].into());
        let (hook, _) = self::hook(&directory, TOLD);
        hooks.follow(&[Hook { when: vec![When::QuorumLost], at_stop: true, ..hook }]);
        hooks.stop(&config(), &view(), 0.0).await;
        assert_eq!(std::fs::read_to_string(&file).unwrap_or_default().replace("  ", " "), expected, "{name}");
    }
}

#[tokio::test]
async fn a_hook_that_takes_too_long_is_killed_and_the_next_change_has_its_turn() {
    let directory = tempfile::tempdir().unwrap();
    let (hook, file) = hook(&directory, "echo begun >> $1; test $LVS_TUND_WHY = first && sleep 300");
    let hook = Hook { timeout: Duration::from_millis(200), ..hook };
    let mut hooks = Hooks::new(Starter::new().unwrap());
    hooks.follow(std::slice::from_ref(&hook));
    hooks.tell(When::RealServerDown, down("first"));
    hooks.tell(When::RealServerDown, down("second"));
    wait_for(&file, |text| text == "begun\nbegun\n").await;
}

#[test]
fn output_in_the_log_is_bounded() {
    assert_eq!(shown(b" out\n"), "out");
    assert_eq!(shown(&[b'x'; 5000]).len(), SHOWN_MAX);
    assert_eq!(shown(b"\xff"), "\u{fffd}");
}
