//! The words of the project, in one list: what the glossary in ARCHITECTURE.md has another word for, and phrases that
//! no network engineer would write in plain English. Each row says what to write instead.

use std::fs;
use std::path::{Path, PathBuf};

mod support;

use support::markdown::{documents, root};

/// Where a row holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// In documents, example configurations and source code.
    Everywhere,
    /// In Markdown files and `config/*.toml`.
    Documents,
}

use Scope::{Documents, Everywhere};

/// A pattern is one word or several, whole and in any case, across line ends; `*` at the end stands for any ending.
struct Row {
    pattern: &'static str,
    better: &'static str,
    scope: Scope,
}

const fn row(pattern: &'static str, better: &'static str, scope: Scope) -> Row {
    Row { pattern, better, scope }
}

const WORDS: &[Row] = &[
    // One thing has one word: the glossary.
    row("backend*", "real server", Everywhere),
    row("endpoint*", "real server", Everywhere),
    row("frontend*", "virtual service", Everywhere),
    row("load balancer*", "director", Everywhere),
    row("middlebox pool*", "directors", Everywhere),
    row("sticky", "persistence", Everywhere),
    row("upstream*", "real server", Everywhere),
    row("vserver*", "virtual service", Everywhere),
    row("balancer*", "director", Documents),
    row("listener*", "virtual service; for events: subscriber, client", Documents),
    row("pool", "cluster", Documents),
    row("session", "connection", Documents),
    // Machines are no persons.
    row("he", "it", Documents),
    row("him", "it", Documents),
    row("himself", "itself", Documents),
    row("his", "its", Documents),
    row("client who", "client that", Documents),
    row("daemon who", "daemon that", Documents),
    row("director who", "director that", Documents),
    row("director, who", "director, which", Documents),
    row("host who", "host that", Documents),
    row("kernel who", "kernel that", Documents),
    row("packet who", "packet that", Documents),
    row("program who", "program that", Documents),
    row("router who", "router that", Documents),
    row("server who", "server that", Documents),
    row("believe", "accept", Documents),
    row("believed", "accepted", Documents),
    row("believes", "accepts", Documents),
    row("hear", "receive", Documents),
    row("heard", "received", Documents),
    row("hears", "receives", Documents),
    row("knows", "has, has an entry for, can determine", Documents),
    row("said", "reported, set", Documents),
    row("say", "report, show, set", Documents),
    row("says", "reports, shows, sets", Documents),
    row("saying", "reporting", Documents),
    row("speak", "send, use", Documents),
    row("speaks", "sends, uses", Documents),
    row("tell", "notify, report", Documents),
    row("tells", "notifies, reports", Documents),
    row("told", "notified, configured", Documents),
    row("wants", "requires, changes", Documents),
    row("asks", "queries, requests, requires", Documents),
    row("asked", "queried, requested", Documents),
    row("eat icmp", "drop ICMP", Documents),
    row("eats icmp", "drops ICMP", Documents),
    // Anybody is a person.
    row("anybody", "anyone, any client", Documents),
    row("everybody", "everyone, all clients", Documents),
    row("nobody", "no one, no program", Documents),
    row("somebody", "another program, someone", Documents),
    row("whoever", "anyone who", Documents),
    // Words of another language in English clothes.
    row("all the same", "anyway, too", Documents),
    row("anew", "again, from scratch", Documents),
    row("as a rule", "usually", Documents),
    row("at the moment", "currently", Documents),
    row("be had", "be used, be created", Documents),
    row("be meant", "be intended", Documents),
    row("become of", "happen to", Documents),
    row("becomes of", "happens to", Documents),
    row("beside", "next to, in addition to", Documents),
    row("besides", "in addition to", Documents),
    row("came of", "resulted from", Documents),
    row("carries on", "continues", Documents),
    row("comes of", "results from", Documents),
    row("else as", "otherwise as", Documents),
    row("else the", "otherwise the", Documents),
    row("else to", "otherwise to", Documents),
    row("give up", "abandon, discard", Documents),
    row("gives up", "abandons, discards", Documents),
    row("go on", "continue", Documents),
    row("goes before", "overrides", Documents),
    row("goes on", "continues", Documents),
    row("handed on", "passed on", Documents),
    row("hands on", "passes on", Documents),
    row("in force", "active, running, applied", Documents),
    row("in pieces", "in fragments", Documents),
    row("is gone", "no longer exists, has been removed", Documents),
    row("is up to", "depends on", Documents),
    row("leads them", "routes them", Documents),
    row("left out", "omitted, optional", Documents),
    row("let go", "released, closed", Documents),
    row("let in", "accepted", Documents),
    row("lets go", "releases, closes", Documents),
    row("made known", "announced", Documents),
    row("of late", "recently", Documents),
    row("on the way", "on the path", Documents),
    row("overworked", "overloaded", Documents),
    row("piece by piece", "fragment by fragment", Documents),
    row("put right", "restored", Documents),
    row("put together", "reassembled", Documents),
    row("puts back", "restores", Documents),
    row("puts it back", "restores it", Documents),
    row("puts it right", "restores it", Documents),
    row("puts it together", "reassembles it", Documents),
    row("puts right", "restores", Documents),
    row("puts them back", "restores them", Documents),
    row("puts them right", "restores them", Documents),
    row("seen to", "ensured", Documents),
    row("sees to it", "ensures", Documents),
    row("seldom", "rarely", Documents),
    row("so be it", "applied", Documents),
    row("stands first", "comes first", Documents),
    row("take away", "remove", Documents),
    row("take in", "accept", Documents),
    row("take over", "apply", Documents),
    row("taken away", "removed", Documents),
    row("taken in", "accepted", Documents),
    row("taken off", "removed", Documents),
    row("taken over", "applied", Documents),
    row("takes in", "accepts", Documents),
    row("takes off", "removes", Documents),
    row("takes over", "applies, becomes active", Documents),
    row("the house", "the project", Documents),
    row("the like", "similar", Documents),
    row("the very", "the same, exactly the", Documents),
    row("this very", "this", Documents),
    row("turned round", "returned", Documents),
    row("under way", "in flight", Documents),
    row("way back", "return path", Documents),
    row("no way to", "no route to", Documents),
    row("the way to", "the route to, the path to", Documents),
    row("with which", "that … with", Documents),
    // Clauses that begin with their object.
    row(", for he", ", because it", Documents),
    row(", for it", ", because it", Documents),
    row(", for the", ", because the", Documents),
    row(", for they", ", because they", Documents),
    row(", for whoever", ", because anyone who", Documents),
    row(". of ", "put the subject first", Documents),
    row(". that ", "put the subject first", Documents),
    row(". what ", "put the subject first", Documents),
    row(". whatever ", "put the subject first", Documents),
    row(". who ", "put the subject first", Documents),
    row(". whose ", "put the subject first", Documents),
    row(", so does", "split the sentence", Documents),
];

/// A text without its line ends and the marks of comments, and the line that each of its bytes is from.
struct Flat {
    text: String,
    lines: Vec<usize>,
}

/// `comment` begins each line of a comment: its marks are not part of a sentence.
fn flat(text: &str, comment: &[char]) -> Flat {
    let mut flat = Flat { text: String::new(), lines: Vec::new() };
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start().trim_start_matches(comment);
        for word in line.split_whitespace() {
            let word = word.to_lowercase() + " ";
            flat.lines.extend(std::iter::repeat_n(index + 1, word.len()));
            flat.text.push_str(&word);
        }
        // A blank line ends a sentence.
        if line.trim().is_empty() {
            flat.text.push('\n');
            flat.lines.push(index + 1);
        }
    }
    flat
}

/// The lines in which a pattern begins.
fn found(flat: &Flat, pattern: &str) -> Vec<usize> {
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let (stem, is_open) = match pattern.strip_suffix('*') {
        Some(stem) => (stem, true),
        None => (pattern, false),
    };
    let is_whole = |at: &usize| {
        let (before, after) =
            (flat.text[..*at].chars().next_back(), flat.text[at + stem.len()..].chars().next());
        let begins = !is_letter(stem.chars().next()) || !is_letter(before);
        begins && (is_open || !is_letter(stem.chars().next_back()) || !is_letter(after))
    };
    let places = flat.text.match_indices(stem).map(|(at, _)| at).filter(is_whole);
    places.map(|at| flat.lines[at]).collect()
}

fn files_under(directory: &str, ending: &str) -> Vec<PathBuf> {
    let (mut files, mut directories) = (Vec::new(), vec![root().join(directory)]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            match path.is_dir() {
                true => directories.push(path),
                false if path.extension().is_some_and(|found| found == ending) => files.push(path),
                false => {}
            }
        }
    }
    assert!(!files.is_empty(), "{directory} holds no *.{ending}");
    files.sort();
    files
}

/// One line for each forbidden word.
fn complaints(path: &Path, text: &str, comment: &[char], is_document: bool) -> Vec<String> {
    let flat = flat(text, comment);
    let rows = WORDS.iter().filter(|row| is_document || row.scope == Everywhere);
    rows.flat_map(|row| {
        let say = |line| format!("{}:{line}: `{}`: better {}", path.display(), row.pattern, row.better);
        found(&flat, row.pattern).into_iter().map(say).collect::<Vec<_>>()
    })
    .collect()
}

/// The glossary itself lists what is not said.
fn without_glossary(path: &Path, text: &str) -> String {
    let is_row =
        |line: &&str| path.ends_with("ARCHITECTURE.md") && line.starts_with("| ") && line.ends_with(" |");
    text.lines().map(|line| if is_row(&line) { "\n" } else { line }.to_owned() + "\n").collect()
}

#[test]
fn documents_and_sources_use_the_words_of_the_list() {
    let mut wrong = Vec::new();
    for document in documents() {
        let text = without_glossary(&document.path, &document.text);
        wrong.extend(complaints(&document.path, &text, &['#', '>', '-', '|'], true));
    }
    for (directory, ending, is_document) in [("config", "toml", true), ("src", "rs", false)] {
        for path in files_under(directory, ending) {
            let text = fs::read_to_string(&path).expect("a readable file");
            let path = path.strip_prefix(root()).expect("a path in the repository");
            wrong.extend(complaints(path, &text, &['#', '/', '!'], is_document));
        }
    }
    assert!(wrong.is_empty(), "{} places:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_pattern_is_found_whole_in_any_case_and_across_lines() {
    let cases: &[(&str, &str, &[usize])] = &[
        ("It is Told.", "told", &[1]),
        ("He toldest retold told_it", "told", &[]),
        ("# it is taken\n# over, and taken  over", "taken over", &[1, 2]),
        ("taken\n\nover", "taken over", &[]),
        ("taken, over", "taken over", &[]),
        ("no backends here", "backend*", &[1]),
        ("no backends here", "backend", &[]),
        ("one.\nWhat is not", ". what ", &[1]),
        ("the director,\nwho", "director, who", &[1]),
    ];
    for (text, pattern, lines) in cases {
        assert_eq!(found(&flat(text, &['#']), pattern), *lines, "{pattern} in {text:?}");
    }
}

#[test]
fn the_list_has_no_row_twice_and_none_that_recommends_what_another_forbids() {
    for (index, row) in WORDS.iter().enumerate() {
        let later = &WORDS[index + 1..];
        assert!(later.iter().all(|other| other.pattern != row.pattern), "`{}` twice", row.pattern);
        assert_eq!(row.pattern, row.pattern.to_lowercase(), "patterns are in lower case");
        assert!(!row.better.is_empty(), "`{}` has nothing better", row.pattern);
        for other in WORDS {
            let hits = found(&flat(row.better, &[]), other.pattern);
            assert!(hits.is_empty(), "`{}` recommends `{}`", row.pattern, other.pattern);
        }
    }
}
