//! Check `exec`.

use lvs_tund::health::check::{Command, Step};
use lvs_tund::health::{FailureClass, Outcome, Success, Transport, Value, Via};

use super::harness::{CHANCE, build, failure, good, refused, row, target, text, texts};

fn exit(is_weight: bool, code: Option<i32>, output: &[u8]) -> Outcome {
    let given = [("command", texts(&["/bin/check", "-a"])), ("weight_from_exit", Value::Flag(is_weight))];
    build("exec", &given).begin(&target(), CHANCE).on_exit(code, output)
}

#[test]
fn the_program_gets_its_arguments_and_its_user() {
    let command = |given: &[(&str, Value)]| build("exec", given).begin(&target(), CHANCE).start();
    let expected = Command { arguments: vec!["/bin/check".to_owned()], user: None, group: None };
    assert_eq!(command(&[("command", text("/bin/check"))]), Step::Run(expected));
    let given =
        [("command", texts(&["/bin/check", "a b", ""])), ("user", text("www")), ("group", text("web"))];
    let expected = Command {
        arguments: vec!["/bin/check".to_owned(), "a b".to_owned(), String::new()],
        user: Some("www".to_owned()),
        group: Some("web".to_owned()),
    };
    assert_eq!(command(&given), Step::Run(expected));
}

#[test]
fn the_exit_code_decides_and_may_be_a_weight() {
    let failed = |text: &str| failure(FailureClass::Command, text);
    let weight = |weight| Ok(Success { weight: Some(weight), ..Success::default() });
    for (is_weight, code, expected) in [
        (false, Some(0), good()),
        (false, Some(1), failed("exit code 1")),
        (false, Some(2), failed("exit code 2")),
        (false, Some(255), failed("exit code 255")),
        (false, None, failed("ended by a signal")),
        (true, Some(0), good()),
        (true, Some(1), failed("exit code 1")),
        (true, Some(2), weight(0)),
        (true, Some(3), weight(1)),
        (true, Some(255), weight(253)),
        (true, Some(256), failed("exit code 256")),
        (true, Some(-1), failed("exit code -1")),
        (true, None, failed("ended by a signal")),
    ] {
        assert_eq!(exit(is_weight, code, b""), expected, "{is_weight} {code:?}");
    }
    let mut default = build("exec", &[("command", text("/bin/check"))]).begin(&target(), CHANCE);
    assert_eq!(default.on_exit(Some(2), b""), failed("exit code 2"), "no weight by default");
}

#[test]
fn the_first_line_of_the_output_is_in_the_failure() {
    for (output, shown) in [
        (&b"disk full\nmore"[..], "exit code 1: \"disk full\""),
        (b"\r\n  \n  late\r\n", "exit code 1: \"late\""),
        (b"\x1b[31mred\xff", "exit code 1: \"\\x1b[31mred\\xff\""),
        (b"echo \"no\"", "exit code 1: \"echo \"no\"\""),
        (b"\n\n", "exit code 1"),
    ] {
        assert_eq!(exit(false, Some(1), output), failure(FailureClass::Command, shown));
    }
    assert_eq!(exit(false, None, b"killed"), failure(FailureClass::Command, "ended by a signal: \"killed\""));
    assert_eq!(exit(false, Some(0), b"noise"), good());
}

#[test]
fn a_program_that_does_not_end_fails_by_its_name() {
    let mut exchange = build("exec", &[("command", text("/bin/check"))]).begin(&target(), CHANCE);
    assert_eq!(exchange.receive(b"output"), Step::Wait);
    assert_eq!(exchange.on_close(), Step::Done(failure(FailureClass::Command, "there is no connection")));
    let expected = failure(FailureClass::Timeout, "/bin/check has not ended in time");
    assert_eq!(exchange.on_timeout(), Some(expected));
}

#[test]
fn a_command_is_required_and_never_goes_through_the_tunnel() {
    assert_eq!(refused("exec", &[]), ("command", "a program is required".to_owned()));
    for command in [texts(&[]), texts(&["", "a"]), text("")] {
        assert_eq!(refused("exec", &[("command", command)]).0, "command");
    }
    let nul = refused("exec", &[("command", texts(&["/a", "b\0"]))]);
    assert_eq!(nul, ("command", "\"b\\0\" contains a NUL".to_owned()));
    for name in ["user", "group"] {
        let refused = refused("exec", &[("command", text("/a")), (name, text(""))]);
        assert_eq!(refused, (name, "the name is empty".to_owned()));
    }
    assert_eq!((row("exec").transport)(&Default::default()), Transport::Command);
    assert_eq!(lvs_tund::health::CheckConfig::new(row("exec")).way(), Via::Direct);
}
