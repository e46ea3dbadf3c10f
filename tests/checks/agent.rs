//! Check `agent`.

use lvs_tund::health::check::Step;
use lvs_tund::health::{FailureClass, Outcome, Success, Value};

use super::harness::{CHANCE, build, failure, good, refused, target, text};

fn exchange(given: &[(&str, Value)]) -> Box<dyn lvs_tund::health::check::Exchange> {
    build("agent", given).begin(&target(), CHANCE)
}

/// The outcome of an answer, which arrives in two pieces, cut at each place.
fn answered(answer: &[u8]) -> Outcome {
    let outcome = |cut: usize| {
        let mut exchange = exchange(&[]);
        assert_eq!(exchange.start(), Step::Wait);
        for piece in [&answer[..cut], &answer[cut..]] {
            if let Step::Done(outcome) = exchange.receive(piece) {
                return outcome;
            }
        }
        match exchange.on_close() {
            Step::Done(outcome) => outcome,
            step => panic!("{step:?}"),
        }
    };
    let first = outcome(0);
    (1..=answer.len()).for_each(|cut| assert_eq!(outcome(cut), first, "cut at {cut}"));
    first
}

#[test]
fn the_words_of_an_agent_are_a_state_and_a_weight() {
    let weight = |weight| Ok(Success { weight: Some(weight), ..Success::default() });
    let percent = |percent| Ok(Success { weight_percent: Some(percent), ..Success::default() });
    let down = |text: &str| failure(FailureClass::Unexpected, text);
    let garbage =
        |line: &str| failure(FailureClass::Garbage, &format!("\"{line}\" is no report of an agent"));
    let rows: [(&[u8], Outcome); 23] = [
        (b"up\n", good()),
        (b"ready\r\n", good()),
        (b"UP", good()),
        (b"75%\n", percent(75)),
        (b"up 0%\n", percent(0)),
        (b"1000%\n", percent(1000)),
        (b"1001%\n", garbage("1001%")),
        (b"up,50%,maxconn:30\n", percent(50)),
        (b"7\n", weight(7)),
        (b"7 50%\n", weight(7)),
        (b"drain\n", weight(0)),
        (b"drain 50%\n", weight(0)),
        (b"maxconn:5\n", good()),
        (b"down\n", down("the agent reports \"down\"")),
        (b"Maint\n", down("the agent reports \"maint\"")),
        (b"up stopped\n", down("the agent reports \"stopped\"")),
        (b"failed # disk full\n", down("the agent reports \"failed\": \"disk full\"")),
        (b"fail#\n", down("the agent reports \"fail\"")),
        (b"up # 50%\n", good()),
        (b"\n", garbage("")),
        (b"# nothing\n", garbage("# nothing")),
        (b"-1\n", garbage("-1")),
        (b"hello\n", garbage("hello")),
    ];
    for (answer, expected) in rows {
        assert_eq!(answered(answer), expected, "{}", String::from_utf8_lossy(answer));
    }
    assert_eq!(answered(b""), failure(FailureClass::Closed, "before the agent has reported anything"));
}

#[test]
fn a_line_without_end_is_given_up() {
    let mut exchange = exchange(&[]);
    assert_eq!(exchange.receive(&[b'1'; 1024]), Step::Wait);
    let expected = failure(FailureClass::Garbage, "a line of more than 1024 bytes");
    assert_eq!(exchange.receive(b"1"), Step::Done(expected));
}

#[test]
fn what_an_agent_waits_for_is_sent_first() {
    let mut exchange = exchange(&[("send", text(r"state\r\n"))]);
    assert_eq!(exchange.start(), Step::Send(b"state\r\n".to_vec()));
    assert_eq!(exchange.receive(b"up\n"), Step::Done(good()));
    assert_eq!(refused("agent", &[("send", text(r"\q"))]).0, "send");
}
