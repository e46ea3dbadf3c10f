//! The rules of the project that a machine can check. A rule is a test, or it is a wish.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use lvs_tund::director::scheduler::SCHEDULERS;
use lvs_tund::encapsulation::ENCAPSULATIONS;
use lvs_tund::health::CHECKS;
use lvs_tund::host::change::KINDS;

/// Rooms and what each may import. Order: from the packet outwards.
const ARROWS: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("failure", &[]),
    ("label", &[]),
    ("trouble", &["label", "time"]),
    ("packet", &[]),
    ("health", &["label", "time"]),
    ("encapsulation", &["packet"]),
    ("director", &["encapsulation", "health", "label", "packet", "time"]),
    ("realserver", &["encapsulation", "label", "packet"]),
    ("config", &["director", "encapsulation", "health", "packet", "realserver"]),
    ("control", &["config", "director", "encapsulation", "health", "packet", "time", "trouble"]),
    ("convert", &["config", "control", "director", "health", "packet"]),
    ("metrics", &["director", "health", "label", "realserver", "time"]),
    ("datapath", &["packet", "time"]),
    ("host", &["label", "packet", "time", "trouble"]),
    ("lab", &["packet"]),
    ("probing", &["director", "encapsulation", "host", "packet", "time"]),
    (
        "serve",
        &["config", "control", "director", "failure", "health", "metrics", "packet", "time", "trouble"],
    ),
    ("doctor", &["config", "director", "health", "packet", "trouble"]),
    ("survey", &["config", "director", "doctor", "host", "packet"]),
    (
        "daemon",
        &[
            "config",
            "control",
            "datapath",
            "director",
            "doctor",
            "encapsulation",
            "failure",
            "health",
            "host",
            "metrics",
            "packet",
            "probing",
            "realserver",
            "serve",
            "survey",
            "time",
            "trouble",
        ],
    ),
    (
        "cli",
        &[
            "config",
            "control",
            "convert",
            "daemon",
            "datapath",
            "director",
            "doctor",
            "encapsulation",
            "failure",
            "health",
            "lab",
            "packet",
            "realserver",
            "survey",
            "time",
            "trouble",
        ],
    ),
];

/// Rooms that decide: they are handed bytes, time and chance.
const PURE: &[&str] = &[
    "health",
    "time",
    "label",
    "packet",
    "encapsulation",
    "director",
    "realserver",
    "config",
    "convert",
    "doctor",
    "metrics",
    "trouble",
];

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
const TEST_LINES_MAX: usize = 500;
/// Test files that are longer, up to [`LONG_TEST_LINES_MAX`]; one that no longer is fails, so the list only shrinks.
const LONG_TESTS: &[&str] = &[
    "tests/journey.rs",
    "tests/lab.rs",
    "tests/namespaces/control.rs",
    "tests/paths/errors.rs",
    "tests/tidy.rs",
];
const LONG_TEST_LINES_MAX: usize = 660;
const FUNCTION_LINES_MAX: usize = 70;
const TEST_FUNCTION_LINES_MAX: usize = 70;

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
        if self.path.ends_with("tests.rs") {
            return "";
        }
        self.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default()
    }

    /// `director::scheduler::rr` in parts; nothing for `lib.rs` and `main.rs`.
    fn module(&self) -> Vec<String> {
        let inside = self.path.strip_prefix("src").expect("a source file").with_extension("");
        let parts: Vec<String> =
            inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        if parts == ["lib"] || parts == ["main"] { Vec::new() } else { parts }
    }

    /// Every path that begins with `crate::` or `super::`, in parts from the root of the crate on; a group in
    /// braces is as many paths.
    fn imports(&self) -> Vec<Vec<String>> {
        let code: String = self.code_lines().flat_map(|(_, line)| [line, "\n"]).collect();
        let mut found = Vec::new();
        for (at, _) in code.match_indices("crate::") {
            paths(&code[at + "crate::".len()..], Vec::new(), &mut found);
        }
        for (at, _) in code.match_indices("super::") {
            if code[..at].ends_with("super::") {
                continue;
            }
            let (mut parent, mut rest) = (self.module(), &code[at..]);
            while let Some(behind) = rest.strip_prefix("super::") {
                parent.pop();
                rest = behind;
            }
            paths(rest, parent, &mut found);
        }
        found.retain(|path| !path.is_empty());
        found
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

/// The paths that `text` begins with, each behind `before`.
fn paths(text: &str, mut before: Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let text_start = text.trim_start();
    let mut at = text.len() - text_start.len();
    if let Some(group) = text_start.strip_prefix('{') {
        at += 1;
        let mut rest = group;
        loop {
            let used = paths(rest, before.clone(), found);
            at += used;
            rest = &rest[used..];
            let Some(end) = rest.find([',', '}', ';']) else { return at };
            at += end + 1;
            let is_last = !rest[end..].starts_with(',');
            rest = &rest[end + 1..];
            if is_last {
                return at;
            }
        }
    }
    let name: String = text_start.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    at += name.len();
    if !name.is_empty() && name != "self" {
        before.push(name);
    }
    match text[at..].strip_prefix("::") {
        Some(rest) if !rest.starts_with('<') => at + 2 + paths(rest, before, found),
        _ => {
            found.push(before);
            at
        }
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
        for target in file.imports().into_iter().map(|path| path[0].clone()) {
            let is_allowed = target == room || allowed.contains(&target.as_str());
            assert!(is_allowed, "{}: `{room}` must not import `{target}`", file.path.display());
        }
    }
}

/// The public surface is `run`; a room is public for the tests of the package or the links of the map.
#[test]
fn the_binary_uses_one_function_and_no_room_is_public_without_need() {
    let read = |path: &str| fs::read_to_string(path).expect("a readable file");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let used = |text: &str| {
        let paths = text.split("lvs_tund::").skip(1);
        paths.map(|path| path.split(|c| !is_word(c)).next().unwrap_or("").to_owned()).collect::<BTreeSet<_>>()
    };
    assert_eq!(used(&read("src/main.rs")), BTreeSet::from(["run".to_owned()]));
    let library = read("src/lib.rs");
    assert!(library.contains("| [`run`] |"), "the table of the public surface");
    let map = read("src/ARCHITECTURE.md");
    let users = files_under("tests", "rs").into_iter().chain(files_under("bench", "rs"));
    let needed: BTreeSet<String> = users.flat_map(|file| used(&file.text)).collect();
    for room in library.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let room = room.split(|c| !is_word(c)).next().unwrap_or("");
        let is_page = library.contains(&format!("pub mod {room} {{}}"));
        let is_linked = map.contains(&format!("[`{room}::")) || map.contains(&format!("[`mod@{room}::"));
        assert!(
            is_page || is_linked || needed.contains(room),
            "`{room}` is public, but nothing needs it to be"
        );
    }
}

/// Groups of modules that import each other, none of which can be read without the rest. The list only shrinks.
const CIRCLES: &[&[&str]] = &[];

/// Looked at file by file, and module by module of each room with all that is in it: what a module's own files
/// import of each other through their door is its own business.
#[test]
fn no_module_imports_one_that_imports_it() {
    let mut circles: BTreeSet<Vec<String>> = BTreeSet::new();
    for depth in [usize::MAX, 2] {
        let mut imports: BTreeMap<Vec<String>, Vec<Vec<String>>> = BTreeMap::new();
        for file in sources() {
            let module = file.module().into_iter().take(depth).collect();
            imports.entry(module).or_default().extend(file.imports());
        }
        let modules: Vec<&Vec<String>> = imports.keys().collect();
        // The longest module that the path begins with.
        let target = |path: &Vec<String>| {
            let holds = |at: &usize| path.starts_with(modules[*at]) && !modules[*at].is_empty();
            (0..modules.len()).filter(holds).max_by_key(|at| modules[*at].len())
        };
        let edges: Vec<BTreeSet<usize>> = imports
            .values()
            .enumerate()
            .map(|(at, paths)| paths.iter().filter_map(target).filter(|to| *to != at).collect())
            .collect();
        let reachable: Vec<BTreeSet<usize>> = (0..modules.len()).map(|from| closure(from, &edges)).collect();
        for at in 0..modules.len() {
            let mates = reachable[at].iter().filter(|other| reachable[**other].contains(&at));
            let circle: Vec<String> = mates.map(|mate| modules[*mate].join("::")).collect();
            if !circle.is_empty() {
                circles.insert(circle);
            }
        }
    }
    let known: BTreeSet<Vec<String>> =
        CIRCLES.iter().map(|circle| circle.iter().map(|name| (*name).to_owned()).collect()).collect();
    assert_eq!(circles, known, "left: circles of imports; right: those that are known");
}

fn closure(from: usize, edges: &[BTreeSet<usize>]) -> BTreeSet<usize> {
    let (mut found, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(at) = open.pop() {
        open.extend(edges[at].iter().copied().filter(|to| found.insert(*to)));
    }
    found
}

#[test]
fn every_file_is_a_module_of_its_door() {
    for file in sources() {
        let module = file.module();
        let Some((name, parents)) = module.split_last() else { continue };
        let door = match parents {
            [] => PathBuf::from("src/lib.rs"),
            parents => PathBuf::from("src").join(parents.join("/")).with_extension("rs"),
        };
        let text = fs::read_to_string(&door).expect("a door");
        let is_declared = text.lines().any(|line| line.ends_with(&format!("mod {name};")));
        assert!(is_declared, "{}: {} does not declare it", file.path.display(), door.display());
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
fn unsafe_lives_in_the_datapath_and_states_why() {
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
fn every_file_has_a_heading_comment_and_a_bounded_size() {
    let others = files_under("tests", "rs").into_iter().chain(files_under("bench", "rs"));
    for file in sources().into_iter().chain(others) {
        let place = file.path.display();
        let has_plate = file.text.starts_with("//! ") || file.path.ends_with("lib.rs");
        assert!(has_plate, "{place}: no door plate");
        let lines = file.text.lines().count();
        let is_long = LONG_TESTS.iter().any(|long| file.path == Path::new(long));
        let max = match is_long {
            true => LONG_TEST_LINES_MAX,
            false if file.path.starts_with("src") => FILE_LINES_MAX,
            false => TEST_LINES_MAX,
        };
        assert!(!is_long || lines > TEST_LINES_MAX, "{place}: take it out of LONG_TESTS");
        assert!(lines <= max, "{place}: {lines} lines, more than {max}");
        // Cargo makes a test of every file that stands directly in `tests`.
        let is_door_inside = file.path.ends_with("mod.rs") && file.path != Path::new("tests/support/mod.rs");
        assert!(!is_door_inside, "{place}: door files stand next to their room");
    }
}

/// A line that begins a function, whatever stands before `fn`.
fn is_function(code: &str) -> bool {
    let mut rest = code;
    loop {
        let words = ["pub ", "const ", "async ", "unsafe ", "extern \"C\" "];
        if let Some(behind) = words.iter().find_map(|word| rest.strip_prefix(word)) {
            rest = behind;
        } else if let Some((_, behind)) = rest.strip_prefix("pub(").and_then(|rest| rest.split_once(") ")) {
            rest = behind;
        } else {
            return rest.starts_with("fn ");
        }
    }
}

/// After rustfmt a function ends at the first line that closes its own indentation; one without a body with `;`.
#[test]
fn functions_fit_on_a_screen() {
    let others = files_under("tests", "rs").into_iter().chain(files_under("bench", "rs"));
    let (mut seen, mut too_long) = (0, Vec::new());
    for file in sources().into_iter().chain(others) {
        let lines: Vec<&str> = file.text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            if !is_function(code) || line.ends_with(';') || line.ends_with('}') {
                continue;
            }
            let place = format!("{}:{}", file.path.display(), start + 1);
            let indentation = " ".repeat(line.len() - code.len());
            let (body, declaration) = (format!("{indentation}}}"), format!("{indentation})"));
            let is_end =
                |line: &&str| **line == body || line.starts_with(&declaration) && line.ends_with(';');
            let length =
                lines[start..].iter().position(is_end).unwrap_or_else(|| panic!("{place}: no end")) + 1;
            let max = if file.path.starts_with("src") { FUNCTION_LINES_MAX } else { TEST_FUNCTION_LINES_MAX };
            if length > max {
                too_long.push(format!("{place}: a function of {length} lines"));
            }
            let name = code.split("fn ").nth(1).unwrap_or_default();
            assert!(!name.starts_with("get_"), "{place}: no get_");
            seen += 1;
        }
    }
    assert!(seen > 2_000, "only {seen} functions were seen");
    assert!(too_long.is_empty(), "{}", too_long.join("\n"));
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
        files_of("src/encapsulation", &["ecn", "identification"]),
        names(ENCAPSULATIONS.iter().map(|row| row.name).collect())
    );
    assert_eq!(files_of("src/host/change", &["observed"]), names(KINDS.to_vec()));
    let helpers = [
        "body",
        "bytes",
        "expression",
        "frame",
        "hpack",
        "huffman",
        "message",
        "name",
        "options",
        "record",
        "redirect",
        "request",
        "response",
        "status",
    ];
    assert_eq!(files_of("src/health/check", &helpers), names(CHECKS.iter().map(|row| row.name).collect()));
}

/// A stranger has the RFCs, the kernel and this repository, and nothing else.
#[test]
fn citations_can_be_followed() {
    let others = files_under("tests", "rs").into_iter().chain(files_under("bench", "rs"));
    for file in sources().into_iter().chain(others).filter(|file| !file.path.ends_with("tidy.rs")) {
        for (index, line) in file.text.lines().enumerate() {
            let place = format!("{}:{}", file.path.display(), index + 1);
            for after in line.split("RFC ").skip(1) {
                assert!(after.starts_with(|c: char| c.is_ascii_digit()), "{place}: RFC without a number");
            }
            let is_part = |c: char| c.is_alphanumeric() || "-_./".contains(c);
            for name in line.split(|c| !is_part(c)).filter(|word| word.len() > 3 && word.ends_with(".md")) {
                let near = file.path.parent().expect("a directory");
                let is_there = [Path::new(""), Path::new("docs"), Path::new("src"), near]
                    .iter()
                    .any(|directory| directory.join(name).exists());
                assert!(is_there, "{place}: there is no {name} in this repository");
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
