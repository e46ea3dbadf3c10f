//! The binary driven as a person or a script drives it: exit codes, what goes to which stream, and messages of one
//! line. Nothing here needs a privilege or changes the host.

use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use lvs_tund::control::ipvsadm::names::Numeric;
use tempfile::TempDir;

const COMMANDS: &[&str] = &[
    "director",
    "realserver",
    "demo",
    "check",
    "convert",
    "explain",
    "status",
    "connections",
    "weight",
    "drain",
    "undrain",
    "reload",
    "save",
    "diff",
];

fn lvs_tund(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lvs-tund"));
    command.args(arguments).stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

/// Runs it; returns exit code, standard output, standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = lvs_tund(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().expect("because nothing kills it"), text(stdout), text(stderr))
}

/// It is refused before anything is touched: exit code 2, one line on standard error, nothing on standard output.
fn refused(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = run(arguments);
    assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    stderr
        .strip_prefix("lvs-tund: ")
        .unwrap_or_else(|| panic!("not from lvs-tund: {stderr}"))
        .trim_end()
        .to_owned()
}

fn repository(path: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path).to_str().unwrap().to_owned()
}

/// A directory with one file in it, and the file's path.
fn file(content: &[u8]) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.toml");
    std::fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

#[test]
fn help_and_version_go_to_standard_output_and_succeed() {
    let (code, stdout, stderr) = run(&["--help"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    for command in COMMANDS {
        assert!(stdout.contains(&format!("\n  {command} ")), "--help does not list {command}:\n{stdout}");
        let usage = format!("Usage: lvs-tund {command} ");
        for arguments in [[command, "--help"], [command, "-h"], ["help", command]] {
            let (code, stdout, stderr) = run(&arguments);
            assert_eq!((code, stderr.as_str()), (0, ""), "{arguments:?}");
            assert!(stdout.contains(&usage), "{arguments:?}:\n{stdout}");
        }
    }
    let version = format!("lvs-tund {}\n", env!("CARGO_PKG_VERSION"));
    for flag in ["--version", "-V"] {
        assert_eq!(run(&[flag]), (0, version.clone(), String::new()));
    }
}

#[test]
fn the_help_of_each_command_ends_with_an_example_that_it_accepts() {
    for command in COMMANDS.iter().chain(&["ipvsadm"]) {
        let (_, help, _) = run(&[command, "--help"]);
        let (_, example) = help.rsplit_once("\nExample:\n").unwrap_or_else(|| panic!("{command}: {help}"));
        let words: Vec<&str> = example.split_whitespace().collect();
        assert_eq!(words[..2], ["lvs-tund", command], "{example}");
        if *command == "ipvsadm" {
            let arguments: Vec<String> = words[2..].iter().map(|word| (*word).to_owned()).collect();
            assert!(lvs_tund::control::ipvsadm::grammar::parse(&arguments, &Numeric).is_ok(), "{example}");
            continue;
        }
        // With this last word nothing runs, but the words before it have to be valid.
        let (code, _, errors) = run(&[&words[1..], &["--help"]].concat());
        assert_eq!((code, errors.as_str()), (0, ""), "{example}");
    }
}

#[test]
fn help_shows_what_each_option_falls_back_to() {
    // Flags, and options that add to the file's values, fall back to nothing.
    let options: [(&str, &[(&str, &str)]); 3] = [
        (
            "director",
            &[
                ("--config", ""),
                ("--interface", "the file's"),
                ("--metrics", "the file's, otherwise 127.0.0.1:9690"),
                ("--control", "the file's, otherwise /run/lvs-tund/director.sock"),
                ("--no-host-changes", ""),
                ("--log-format", "text"),
            ],
        ),
        (
            "realserver",
            &[
                ("--config", ""),
                ("--vip", ""),
                ("--director", ""),
                ("--metrics", "the file's, otherwise 127.0.0.1:9691"),
                ("--control", "the file's, otherwise /run/lvs-tund/realserver.sock"),
                ("--no-host-changes", ""),
                ("--insecure", ""),
                ("--log-format", "text"),
            ],
        ),
        (
            "demo",
            &[
                ("--real-servers", "2"),
                ("--requests", "8"),
                ("--routed", ""),
                ("--hold", ""),
                ("--format", "text"),
            ],
        ),
    ];
    for (command, options) in options {
        let (_, stdout, _) = run(&[command, "--help"]);
        let words = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, described) = words.split_once("Options:").expect("options");
        let (described, _) = described.split_once(" -h, --help").expect("the help's own option");
        let mut places: Vec<_> = options
            .iter()
            .map(|(option, default)| {
                let place = described.find(&format!(" {option} "));
                (place.unwrap_or_else(|| panic!("{command} {option}")), option, default)
            })
            .collect();
        places.sort_unstable();
        let ends = places.iter().skip(1).map(|(place, ..)| *place).chain([described.len()]);
        for ((place, option, default), end) in places.iter().zip(ends) {
            let found = described[*place..end].split_once("[default: ").map_or("", |(_, rest)| rest);
            assert_eq!(found.trim_end().trim_end_matches(']'), **default, "{command} {option}");
        }
    }
}

#[test]
fn wrong_usage_is_reported_on_standard_error_with_exit_code_2() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage: lvs-tund <COMMAND>"),
        (&["chek", "x"], "some similar subcommands exist: 'check-now', 'check'"),
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (&["check"], "<FILE>"),
        (&["check", "a", "b"], "unexpected argument 'b'"),
        (&["director", "--intreface", "eth0"], "'--interface'"),
        (&["director", "--interface"], "--interface <IF>"),
        (&["director", "--metrics", "9690"], "invalid value '9690' for '--metrics <ADDR:PORT>'"),
        (&["realserver", "--directors", "172.25.3.1"], "'--director'"),
        (&["demo", "--real-servers", "0"], "invalid value '0' for '--real-servers <N>'"),
        (&["demo", "--requests", "many"], "invalid value 'many' for '--requests <N>'"),
        (&["demo", "--format", "xml"], "[possible values: text, json]"),
    ];
    for (arguments, expected) in cases {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(stderr.contains(expected), "{arguments:?}:\n{stderr}");
    }
}

#[test]
fn check_reports_what_a_valid_file_is_for() {
    let (director, realserver) = (repository("config/director.toml"), repository("config/realserver.toml"));
    let expected = format!("{director}: valid for a director with 1 virtual service, 2 real servers\n");
    assert_eq!(run(&["check", &director]), (0, expected, String::new()));
    let expected = format!("{realserver}: valid for a real server with 1 VIP\n");
    assert_eq!(run(&["check", &realserver]), (0, expected, String::new()));
}

#[test]
fn check_warns_of_common_mistakes_and_has_output_for_programs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("director.toml");
    let text = "interface = \"eth0\"\n[[virtual_service]]\nprotocol = \"tcp\"\nvip = \"172.25.3.100\"\nport = 80\n\
                persistence = {}\nscheduler = \"sh\"\n[[virtual_service.real_server]]\nrip = \"172.25.3.2\"\nweight = 0\n";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let (code, out, err) = run(&["check", path]);
    assert_eq!((code, out.lines().count()), (0, 1), "{out}");
    let warnings: Vec<_> = err.lines().collect();
    assert_eq!(warnings.len(), 3, "{err}");
    for classic in ["persistence with scheduler sh", "every real server has weight 0", "without hash_key"] {
        let begin = format!("{path}: warning: virtual service ");
        let is_said = |line: &&str| line.starts_with(&begin) && line.contains(classic);
        assert!(warnings.iter().any(is_said), "{classic}: {err}");
    }
    let (code, out, err) = run(&["check", "--format", "json", path]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, err.as_str(), &report["valid"], &report["role"]),
        (0, "", &true.into(), &"director".into())
    );
    assert_eq!(
        (report["warnings"].as_array().unwrap().len(), &report["error"]),
        (3, &serde_json::Value::Null)
    );
    std::fs::write(path, text.replace("port = 80", "prot = 80")).unwrap();
    let (code, out, _) = run(&["check", "--format", "json", path]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["valid"], &report["error"]["line"]), (2, &false.into(), &5.into()));
}

#[test]
fn check_warns_of_what_checks_need_and_this_host_does_not_have() {
    let directory = tempfile::tempdir().unwrap();
    let (path, absent) = (directory.path().join("director.toml"), directory.path().join("absent"));
    let absent = absent.display();
    let text = format!(
        "interface = \"eth0\"\non_change = {{ command = [\"{absent}\"] }}\n[[virtual_service]]\nname = \"web\"\n\
         protocol = \"tcp\"\nvip = \"172.25.3.100\"\nport = 443\ncheck = {{ type = \"https\", ca_file = \"{absent}\" }}\n\
         [[virtual_service.real_server]]\nrip = \"172.25.3.2\"\n"
    );
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let (code, _, err) = run(&["check", path]);
    let expected = format!(
        "{path}: warning: virtual service web: check https: cannot read {absent}: No such file or directory (os error 2); \
         correct the path or the file; until then the check cannot be made, and its real servers keep their state\n\
         {path}: warning: on_change: there is no program {absent}; name its whole path; until then it is not run\n"
    );
    assert_eq!((code, err), (0, expected));
}

#[test]
fn check_points_at_what_is_wrong_in_the_words_of_the_right_daemon() {
    let cases: &[(&[u8], &str)] = &[
        (b"", ": the key `interface` is missing"),
        (b"interface = \"eth0\"\nqueues = 0\n", ":2: queues = 0: expected 1 to 256"),
        (
            b"interface = \"eth0\"\nqeues = 1\n",
            ":2: `qeues = 1`: unknown key `qeues`; did you mean `queues`?",
        ),
        (b"vips = [\"172.25.3.100\"]\n", ": no director given"),
        (b"vip = [\"172.25.3.100\"]\n", "unknown key `vip`; did you mean `vips`?"),
        (
            b"vips = []\ndirector = []\n",
            ":2: `director = []`: unknown key `director`; did you mean `directors`?",
        ),
        (b"vips = [\"172.25.3.100\"\n", "the list's closing ] is missing"),
        (
            b"[[virtual_service]]\nvip = \"10.0.0.1\"\n",
            ":1: `[[virtual_service]]`: the key `protocol` is missing",
        ),
        (b"interface = \"eth0\"\nname = \"\xff\"\n", ":2: not UTF-8 text"),
        (b"interface = \"eth0\"\n\0\n", ":2: contains a NUL byte; a configuration file is plain text"),
    ];
    for (content, expected) in cases {
        let (_directory, path) = file(content);
        let message = refused(&["check", &path]);
        let message =
            message.strip_prefix(&path).unwrap_or_else(|| panic!("the file is not named: {message}"));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn check_reports_every_error_in_the_order_of_the_file() {
    let (_directory, path) = file(b"interface = \"eth0\"\nqueues = 0\ntun = \"lo\"\n[[real_server]]\n");
    let (code, output, errors) = run(&["check", &path]);
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!((code, output.as_str(), lines.len()), (2, "", 3), "{errors}");
    for (line, expected) in lines.iter().zip([":2: queues = 0", ":3: tun = \"lo\"", ":4: `[[real_server]]`"])
    {
        assert!(line.starts_with(&format!("lvs-tund: {path}{expected}")), "{line}");
    }
    let (code, output, _) = run(&["check", "--format", "json", &path]);
    let report: serde_json::Value = serde_json::from_str(&output).unwrap();
    let lines: Vec<_> =
        report["errors"].as_array().unwrap().iter().map(|error| error["line"].clone()).collect();
    assert_eq!((code, &report["valid"], lines), (2, &false.into(), vec![2.into(), 3.into(), 4.into()]));
    assert_eq!(report["error"], report["errors"][0]);
}

#[test]
fn a_file_that_cannot_be_read_is_refused_by_every_command_that_reads_one() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.toml");
    let paths =
        [(missing.to_str().unwrap(), "No such file"), (directory.path().to_str().unwrap(), "Is a directory")];
    for (path, why) in paths {
        for arguments in
            [&["check", path][..], &["director", "--config", path], &["realserver", "--config", path]]
        {
            let message = refused(arguments);
            assert!(message.starts_with(&format!("{path}: cannot read: {why}")), "{message}");
        }
    }
}

#[test]
fn a_daemon_without_what_it_needs_is_refused_before_it_touches_the_host() {
    assert_eq!(
        refused(&["director"]),
        "give a configuration with --config FILE, or --interface IF for an empty director"
    );
    assert!(
        refused(&["director", "--interface", "eth0/1"])
            .starts_with("command line: --interface = \"eth0/1\": ")
    );
    assert!(refused(&["realserver"]).contains("no VIP given"));
    assert!(refused(&["realserver", "--vip", "172.25.3.100"]).contains("no director given"));
    assert!(refused(&["realserver", "--director", "172.25.3.1"]).contains("no VIP given"));
    let arguments = ["realserver", "--vip", "172.25.3.100", "--director", "172.25.3.100"];
    assert!(refused(&arguments).contains("172.25.3.100 is given as a VIP and as a director"));
    let arguments = ["realserver", "--vip", "172.25.3.100", "--director", "0.0.0.0/0"];
    assert!(refused(&arguments).contains("or add --insecure"));
    let (director, realserver) = (repository("config/director.toml"), repository("config/realserver.toml"));
    assert!(refused(&["director", "--config", &realserver]).contains("unknown key `vips`"));
    assert!(refused(&["realserver", "--config", &director]).contains("unknown key `interface`"));
}

#[test]
fn a_failure_while_running_has_exit_code_1() {
    let (code, stdout, stderr) = run(&["director", "--interface", "lvs-tund-none"]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert_eq!(stderr, "lvs-tund: interface lvs-tund-none does not exist; `ip link` lists those that do\n");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments =
        ["realserver", "--vip", "172.25.3.100", "--director", "172.25.3.1", "--metrics", &address];
    let (code, stdout, stderr) = run(&arguments);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with(&format!("lvs-tund: cannot serve metrics on {address}: ")), "{stderr}");
    assert!(stderr.trim_end().ends_with("--metrics ADDRESS:PORT"), "{stderr}");
}

/// A script may close what it does not read: `lvs-tund check FILE | true`.
#[test]
fn a_closed_stream_is_no_panic() {
    let (good, broken) = (repository("config/director.toml"), repository("README.md"));
    let cases: &[(&[&str], i32)] = &[
        (&["--help"], 0),
        (&["--version"], 0),
        (&["director", "--help"], 0),
        (&["check", &good], 0),
        (&["check", &broken], 2),
        (&["realserver"], 2),
        (&["frobnicate"], 2),
    ];
    for (arguments, code) in cases {
        let closed = || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            writer
        };
        assert!(closed().write_all(b"x").is_err());
        let status = lvs_tund(arguments).stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(*code), "{arguments:?}");
        let output = lvs_tund(arguments).stdout(closed()).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
}

/// Where no director runs: one line, what and what to do; ipvsadm's own exit code where it is ipvsadm.
#[test]
fn commands_without_a_director_report_it() {
    let nowhere = tempfile::tempdir().unwrap();
    let socket = nowhere.path().join("none.sock");
    let ask = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_lvs-tund"))
            .args(words)
            .env("LVS_TUND_CONTROL", &socket)
            .output();
        let output = output.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.stdout.len(), stderr.lines().count()), (0, 1), "{words:?}: {stderr}");
        assert!(stderr.contains("none.sock") && stderr.contains("LVS_TUND_CONTROL"), "{words:?}: {stderr}");
        output.status.code()
    };
    for words in [
        &["status"] as &[&str],
        &["status", "--format", "json"],
        &["connections"],
        &["weight", "server2", "0"],
        &["drain", "server2", "--timeout", "10m", "--then", "keep"],
        &["undrain", "server2"],
        &["reload"],
        &["save"],
        &["diff", &repository("config/director.toml")],
    ] {
        assert_eq!(ask(words), Some(1), "{words:?}");
    }
    for words in [
        &["ipvsadm"] as &[&str],
        &["ipvsadm", "-Ln"],
        &["ipvsadm", "-A", "-t", "10.0.0.1:80"],
        &["ipvsadm", "-C"],
    ] {
        assert_eq!(ask(words), Some(2), "{words:?}");
    }
}

#[test]
fn invalid_words_are_refused_before_any_director_is_queried() {
    for words in [
        &["weight", "server2", "2147483648"] as &[&str],
        &["weight", "server2", "-1"],
        &["drain", "server2", "--timeout", "soon"],
        &["drain", "server2", "--then", "perhaps"],
        &["status", "--watch", "0"],
        &["diff", "/no/such/file"],
    ] {
        let (code, stdout, _) = run(words);
        assert_eq!((code, stdout.as_str()), (2, ""), "{words:?}");
    }
}

/// The grammar, the texts and the exit codes are those of ipvsadm, whatever name it is called by.
#[test]
fn a_link_called_ipvsadm_is_ipvsadm() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("ipvsadm");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lvs-tund"), &link).unwrap();
    let cases: [(&[&str], i32, &str, &str); 5] = [
        (&["-v"], 0, "ipvsadm v1.31 ", ""),
        (&["--help"], 0, "ipvsadm v1.31 ", ""),
        (&["-Q"], 255, "", "Try `ipvsadm -h' or 'ipvsadm --help' for more information.\n"),
        (&["-A", "-D"], 2, "", "invalid option `-D'\n"),
        (&["-A", "-t", "10.0.0.1:99999"], 2, "", "illegal virtual server address[:port] specified\n"),
    ];
    for (words, code, stdout, stderr) in cases {
        let by_link = Command::new(&link).args(words).output().unwrap();
        let by_word =
            Command::new(env!("CARGO_BIN_EXE_lvs-tund")).arg("ipvsadm").args(words).output().unwrap();
        for output in [by_link, by_word] {
            assert_eq!(output.status.code(), Some(code), "{words:?}");
            assert!(String::from_utf8(output.stdout).unwrap().starts_with(stdout), "{words:?}");
            assert_eq!(String::from_utf8(output.stderr).unwrap(), stderr, "{words:?}");
        }
    }
}
