//! The rules of the house that a machine can check. A rule is a test, or it is a wish.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lvs_tund::datapath::DATAPATHS;
use lvs_tund::director::scheduler::SCHEDULERS;
use lvs_tund::encapsulation::ENCAPSULATIONS;

/// Rooms and what each may import. Order: from the packet outwards.
const ARROWS: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("failure", &[]),
    ("packet", &[]),
    ("encapsulation", &["packet"]),
    ("director", &["encapsulation", "packet", "time"]),
    ("realserver", &["encapsulation", "packet"]),
    ("config", &["director", "encapsulation", "packet", "realserver"]),
    ("control", &["config", "director", "encapsulation", "packet", "time"]),
    ("metrics", &["director", "realserver", "time"]),
    ("datapath", &["packet", "time"]),
    ("host", &[]),
    ("lab", &[]),
    (
        "daemon",
        &[
            "config",
            "control",
            "datapath",
            "director",
            "encapsulation",
            "failure",
            "host",
            "metrics",
            "packet",
            "realserver",
            "time",
        ],
    ),
    (
        "cli",
        &[
            "config",
            "control",
            "daemon",
            "datapath",
            "director",
            "encapsulation",
            "failure",
            "lab",
            "packet",
            "realserver",
            "time",
        ],
    ),
];

/// Rooms that decide: they are handed bytes, time and chance.
const PURE: &[&str] = &["time", "packet", "encapsulation", "director", "realserver", "config", "metrics"];

/// Files of the room `control` that are as pure: all but the client.
const IMPURE_IN_CONTROL: &[&str] = &["src/control/client.rs"];

/// What a pure room must not name.
const IMPURE: &[&str] = &[
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "tokio",
    "tracing",
    "socket2",
    "rand::",
    "println!",
    "eprintln!",
    "File::",
];

const FILE_LINES_MAX: usize = 450;
const FUNCTION_LINES_MAX: usize = 70;

struct File {
    path: PathBuf,
    text: String,
}

impl File {
    /// The room: the first name under `src`, with or without its ending.
    fn room(&self) -> String {
        let inside = self.path.strip_prefix("src").expect("a source file");
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy();
        first.trim_end_matches(".rs").to_owned()
    }

    /// The code without its unit tests.
    fn code(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default()
    }

    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_comment = |line: &str| line.trim_start().starts_with("//");
        self.code()
            .lines()
            .enumerate()
            .filter(move |(_, line)| !is_comment(line))
            .map(|(i, line)| (i + 1, line))
    }
}

fn files_under(directory: &str, ending: &str) -> Vec<File> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::from(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                let text = fs::read_to_string(&path).expect("a readable file");
                found.push(File { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "{directory} holds no *.{ending}");
    found
}

fn sources() -> Vec<File> {
    files_under("src", "rs")
}

#[test]
fn every_room_is_known_and_imports_point_one_way() {
    for file in sources() {
        let room = file.room();
        if room == "lib" || room == "main" {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
            panic!("{}: room `{room}` has no arrows", file.path.display())
        };
        for (number, line) in file.code_lines() {
            for part in line.split("crate::").skip(1) {
                let target: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let is_allowed = target.is_empty() || target == room || allowed.contains(&target.as_str());
                assert!(is_allowed, "{}:{number}: `{room}` must not import `{target}`", file.path.display());
            }
        }
    }
}

#[test]
fn pure_rooms_name_no_socket_clock_file_thread_or_log() {
    let is_pure = |file: &&File| {
        let is_client = IMPURE_IN_CONTROL.iter().any(|path| file.path == Path::new(path));
        PURE.contains(&file.room().as_str()) || file.room() == "control" && !is_client
    };
    for file in sources().iter().filter(is_pure) {
        for (number, line) in file.code_lines() {
            for word in IMPURE {
                assert!(!line.contains(word), "{}:{number}: a pure room names {word}", file.path.display());
            }
        }
    }
}

#[test]
fn unsafe_lives_in_the_datapath_and_says_why() {
    for file in sources() {
        let lines: Vec<&str> = file.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let is_code = !line.trim_start().starts_with("//");
            if !is_code
                || !(line.contains("unsafe {") || line.contains("unsafe impl") || line.contains("unsafe fn"))
            {
                continue;
            }
            let place = format!("{}:{}", file.path.display(), index + 1);
            assert_eq!(file.room(), "datapath", "{place}: unsafe outside the datapath");
            let above = &lines[index.saturating_sub(6)..index];
            assert!(above.iter().any(|line| line.contains("SAFETY:")), "{place}: unsafe without SAFETY");
        }
    }
}

#[test]
fn every_file_has_its_door_plate_and_its_size() {
    for file in sources() {
        let place = file.path.display();
        let has_plate = file.text.starts_with("//! ") || file.path.ends_with("lib.rs");
        assert!(has_plate, "{place}: no door plate");
        let lines = file.text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{place}: {lines} lines, more than {FILE_LINES_MAX}");
        assert_ne!(
            file.path.file_name().expect("a name"),
            "mod.rs",
            "{place}: door files stand beside their room"
        );
    }
}

/// After rustfmt a function ends at the first line that closes its own indentation.
#[test]
fn functions_fit_on_a_screen() {
    for file in sources() {
        let lines: Vec<&str> = file.text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let is_function =
                ["fn ", "pub fn ", "pub(crate) fn ", "async fn ", "pub async fn ", "pub const fn "]
                    .iter()
                    .any(|begin| code.starts_with(begin));
            if !is_function || line.ends_with(';') || line.ends_with('}') {
                continue;
            }
            let close = format!("{}}}", " ".repeat(line.len() - code.len()));
            let length = lines[start..].iter().position(|line| *line == close).unwrap_or(0) + 1;
            let place = format!("{}:{}", file.path.display(), start + 1);
            assert!(length <= FUNCTION_LINES_MAX, "{place}: a function of {length} lines");
            let name = code.split("fn ").nth(1).unwrap_or_default();
            assert!(!name.starts_with("get_"), "{place}: no get_");
        }
    }
}

#[test]
fn every_member_of_a_family_has_its_file_and_its_row() {
    let files_of = |directory: &str, helpers: &[&str]| -> BTreeSet<String> {
        let stem = |file: &File| file.path.file_stem().expect("a name").to_string_lossy().into_owned();
        let files = files_under(directory, "rs");
        files.iter().map(stem).filter(|name| !helpers.contains(&name.as_str())).collect()
    };
    let names = |rows: Vec<&str>| -> BTreeSet<String> { rows.into_iter().map(str::to_owned).collect() };
    assert_eq!(
        files_of("src/director/scheduler", &["common"]),
        names(SCHEDULERS.iter().map(|row| row.name).collect())
    );
    assert_eq!(
        files_of("src/encapsulation", &["ecn"]),
        names(ENCAPSULATIONS.iter().map(|row| row.name).collect())
    );
    assert_eq!(files_of("src/datapath", &[]), names(DATAPATHS.iter().map(|row| row.name).collect()));
}

#[test]
fn citations_can_be_followed() {
    for file in sources() {
        for (index, line) in file.text.lines().enumerate() {
            let place = format!("{}:{}", file.path.display(), index + 1);
            for after in line.split("RFC ").skip(1) {
                assert!(after.starts_with(|c: char| c.is_ascii_digit()), "{place}: RFC without a number");
            }
            for document in
                ["ipvs", "standards", "bad-input", "datapath", "crates", "metrics", "peers", "decisions"]
            {
                let name = format!("{document}.md");
                for (at, _) in line.match_indices(name.as_str()) {
                    // A page of this repository: tests/documents.rs looks whether it is there.
                    if line[..at].ends_with("docs/") {
                        continue;
                    }
                    let section = line[at + name.len()..].trim_start_matches([' ', '`']);
                    let is_cited = section
                        .starts_with(['§', 'T', 'D', 'R', 'Q', 'L', 'C', 'P', 'N', 'F', 'A', 'M'])
                        || section.is_empty()
                        || section.starts_with("has no");
                    assert!(is_cited, "{place}: {name} without a section");
                }
            }
        }
    }
}

#[test]
fn the_map_names_every_room_and_no_line() {
    let map = fs::read_to_string("src/ARCHITECTURE.md").expect("the map");
    for (room, _) in ARROWS {
        assert!(map.contains(&format!("`{room}`")), "ARCHITECTURE.md does not name the room `{room}`");
    }
    assert!(!map.contains(".rs:"), "ARCHITECTURE.md names a line");
}

/// Every test that the table of the standards names is there, under its own name or as a row of a harness of ours.
#[test]
fn every_rule_of_the_standards_has_its_test() {
    let table = fs::read_to_string("docs/standards.md").expect("the table");
    let texts: String =
        sources().into_iter().chain(files_under("tests", "rs")).map(|file| file.text).collect();
    let mut named = 0;
    for line in table.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let tests = line.rsplit('|').nth(1).expect("a last column");
        for name in tests.split('`').skip(1).step_by(2) {
            let is_there =
                texts.contains(&format!("fn {name}()")) || texts.contains(&format!("(\"{name}\", "));
            assert!(is_there, "standards.md names `{name}`, which is no test");
            named += 1;
        }
    }
    assert!(named > 80, "{named} tests are named");
}

/// Every row of the reference of odd and hostile packets is shown by a test that carries its id, or is listed as not
/// served.
#[test]
fn every_row_of_bad_input_has_its_test() {
    const ROWS: [(char, u32); 2] = [('D', 110), ('R', 47)];
    let table = fs::read_to_string("docs/standards.md").expect("the table");
    let not_served = table.split("These ids therefore have no test:").nth(1).expect("the list");
    let shown: String = ["tests/journey.rs", "tests/paths.rs", "tests/realserver_journey.rs"]
        .iter()
        .map(|path| fs::read_to_string(path).expect("a table of packets"))
        .chain([not_served.to_owned()])
        .collect();
    for (letter, last) in ROWS {
        let ids = ids_of(letter, &shown);
        for number in 1..=last {
            assert!(ids.contains(&number), "no test carries the id {letter}{number:02}");
        }
    }
}

/// The numbers behind this letter in a text: `D07`, and all of `D24 to D28` and `R24-R29`.
fn ids_of(letter: char, text: &str) -> BTreeSet<u32> {
    let number = |text: &str| -> Option<(u32, usize)> {
        let digits = text.chars().take_while(char::is_ascii_digit).count();
        ((2..=3).contains(&digits)).then(|| (text[..digits].parse().expect("digits"), digits))
    };
    let mut ids = BTreeSet::new();
    for (at, _) in text.match_indices(letter) {
        let Some((first, digits)) = number(&text[at + 1..]) else { continue };
        let rest = &text[at + 1 + digits..];
        let behind = [" to ", "-"].iter().find_map(|word| rest.strip_prefix(word)?.strip_prefix(letter));
        let last = behind.and_then(number).map_or(first, |(last, _)| last);
        ids.extend(first..=last);
    }
    ids
}
