//! `lvs-tund convert`: files as people write them, each with its result; the rules of the other programs, as tables; and
//! properties that hold for any file.

#[path = "convert/properties.rs"]
mod properties;
#[path = "convert/script.rs"]
mod script;
#[path = "convert/stand_ins.rs"]
mod stand_ins;
#[path = "convert/traps.rs"]
mod traps;
#[path = "convert/words.rs"]
mod words;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lvs_tund::config::{Source, plan};
use lvs_tund::control::ipvsadm::names::Numeric;
use lvs_tund::convert::{Converted, Input, Kind, convert, recognize};

const FILES: &str = "tests/convert/files";

/// Converts a text that includes nothing.
fn converted(kind: Kind, text: &str) -> Converted {
    let include = |_: &str, _: &str| Ok(Vec::new());
    convert(kind, &Input { name: "file", text, include: &include, names: &Numeric, config_id: "here" })
}

/// The result, without its heading.
fn toml_of(kind: Kind, text: &str) -> String {
    let toml = converted(kind, text).toml;
    toml.split_once("\n\n").map_or(String::new(), |(_, rest)| rest.to_owned())
}

/// The losses as text, without "file:".
fn losses_of(kind: Kind, text: &str) -> Vec<String> {
    let losses = converted(kind, text).losses;
    losses.iter().map(|loss| loss.to_string().trim_start_matches("file:").to_owned()).collect()
}

/// The result is a valid configuration.
fn assert_valid(toml: &str) {
    let source = Source { name: "director.toml", text: toml };
    if let Err(errors) = plan::check_director(&source, None) {
        panic!("{}\n{toml}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
    let keys: toml::Table = toml.parse().expect("valid TOML");
    assert!(keys.contains_key("interface"));
}

/// The files to convert, by their names.
fn names() -> Vec<String> {
    let entries = fs::read_dir(FILES).expect("a readable directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let is_input =
        |name: &String| [".conf", ".cf", ".rules", ".sh"].iter().any(|ending| name.ends_with(ending));
    let mut names: Vec<String> = names.filter(is_input).collect();
    names.sort();
    names
}

/// Exit code, standard output, standard error.
fn run(arguments: &[&str], input: Option<&str>) -> (i32, String, String) {
    let stdin = input
        .map_or_else(Stdio::null, |path| fs::File::open(Path::new(FILES).join(path)).expect("a file").into());
    let output = Command::new(env!("CARGO_BIN_EXE_lvs-tund"))
        .current_dir(FILES)
        .args(["convert", "--config-id", "here"])
        .args(arguments)
        .stdin(stdin)
        .output()
        .expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

fn beside(name: &str, ending: &str) -> PathBuf {
    Path::new(FILES).join(format!("{name}.{ending}"))
}

#[test]
fn every_file_has_its_result_and_its_list_of_losses() {
    let names = names();
    assert!(names.len() >= 12, "only {} files", names.len());
    for name in names {
        let (code, stdout, stderr) = run(&[&name], None);
        assert_eq!(code, 0, "{name}: {stderr}");
        let expected = |ending| fs::read_to_string(beside(&name, ending)).unwrap_or_default();
        assert_eq!(stdout, expected("toml"), "{name}: see write_the_results");
        assert_eq!(stderr, expected("stderr"), "{name}: see write_the_results");
        assert_valid(&stdout);
    }
}

/// Writes the results; read what changed before you keep it.
#[test]
#[ignore = "writes the expected results"]
fn write_the_results() {
    for name in names() {
        let (_, stdout, stderr) = run(&[&name], None);
        fs::write(beside(&name, "toml"), stdout).expect("a writable file");
        fs::write(beside(&name, "stderr"), stderr).expect("a writable file");
    }
}

/// The list on standard error is that of the comments.
#[test]
fn standard_error_lists_what_the_comments_list_and_counts_it() {
    for name in names() {
        let (_, stdout, stderr) = run(&[&name], None);
        let comments = stdout.lines().filter_map(|line| line.strip_prefix("# not converted: "));
        let listed = stderr.lines().filter_map(|line| line.strip_prefix("not converted: "));
        let (mut comments, mut listed): (Vec<_>, Vec<_>) = (comments.collect(), listed.collect());
        comments.sort_unstable();
        listed.sort_unstable();
        assert_eq!(comments, listed, "{name}");
        let last = stderr.lines().last().expect("a summary");
        assert!(last.starts_with("lvs-tund: ") && last.contains(&format!("{} line", listed.len())), "{last}");
    }
}

#[test]
fn losses_are_a_failure_only_if_strict() {
    let (code, stdout, stderr) = run(&["--strict", "keepalived-web.conf"], None);
    assert_eq!(code, 2, "{stderr}");
    assert_eq!(stdout, fs::read_to_string(beside("keepalived-web.conf", "toml")).expect("a result"));
    assert_eq!(run(&["--strict", "ldirectord-defaults.cf"], None).0, 0);
}

#[test]
fn standard_input_is_recognized_too_and_a_program_can_be_given() {
    let (code, stdout, _) = run(&["-"], Some("ipvsadm-save.rules"));
    assert_eq!(code, 0);
    assert!(stdout.contains("converted from standard input of ipvsadm"), "{stdout}");
    let (code, stdout, stderr) = run(&["--from", "keepalived", "-"], Some("ipvsadm-save.rules"));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("of keepalived"), "{stdout}");
    assert!(stderr.contains("unknown at the top of the file"), "{stderr}");
}

#[test]
fn what_cannot_be_read_or_recognized_is_refused() {
    for (name, expected) in [
        ("nowhere.conf", "nowhere.conf: cannot read"),
        ("groups.d", "cannot read"),
        ("/dev/null", "choose one with --from"),
    ] {
        let (code, stdout, stderr) = run(&[name], None);
        assert_eq!((code, stdout.as_str()), (2, ""), "{name}");
        assert!(stderr.contains(expected), "{name}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn a_file_is_recognized_by_its_words() {
    let cases = [
        ("! comment\nglobal_defs {", Some(Kind::Keepalived)),
        ("virtual_server 172.25.3.100 80{", Some(Kind::Keepalived)),
        ("\u{feff}vrrp_instance V {", Some(Kind::Keepalived)),
        ("$A=1\nvirtual_server_group x {", Some(Kind::Keepalived)),
        ("@here virtual_server 172.25.3.100 80 {", Some(Kind::Keepalived)),
        ("# comment\ncheckinterval = 3", Some(Kind::Ldirectord)),
        ("virtual=172.25.3.100:80", Some(Kind::Ldirectord)),
        ("-A -t 172.25.3.100:80 -s rr", Some(Kind::Ipvsadm)),
        ("#!/bin/sh\nVIP=172.25.3.100\n/sbin/ipvsadm -C", Some(Kind::Ipvsadm)),
        ("ipvsadm --add-service --tcp-service 172.25.3.100:80", Some(Kind::Ipvsadm)),
        ("interface = \"eth0\"", None),
        ("", None),
        ("hello world", None),
    ];
    for (text, expected) in cases {
        assert_eq!(recognize(text), expected, "{text}");
    }
}
