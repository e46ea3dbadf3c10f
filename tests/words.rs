//! The words of the project, in one list: what the glossary in ARCHITECTURE.md has another word for, and phrases that
//! no network engineer would write in plain English. Each row gives a better word.

#[path = "words/source.rs"]
mod source;

use std::fs;
use std::path::{Path, PathBuf};

mod support;

use support::markdown::{documents, root};

/// Where a row holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// In documents, example configurations and source code.
    Everywhere,
    /// In Markdown files, `config/*.toml`, and the comments, texts and test names of source code.
    Prose,
}

use Scope::{Everywhere, Prose};

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
    row("balancer*", "director", Prose),
    row("listener*", "virtual service; for events: subscriber, client", Prose),
    row("pool", "cluster", Prose),
    row("session", "connection", Prose),
    // Machines are no persons.
    row("he", "it", Prose),
    row("him", "it", Prose),
    row("himself", "itself", Prose),
    row("his", "its", Prose),
    row("client who", "client that", Prose),
    row("daemon who", "daemon that", Prose),
    row("director who", "director that", Prose),
    row("director, who", "director, which", Prose),
    row("host who", "host that", Prose),
    row("kernel who", "kernel that", Prose),
    row("packet who", "packet that", Prose),
    row("program who", "program that", Prose),
    row("router who", "router that", Prose),
    row("server who", "server that", Prose),
    row("believe", "accept", Prose),
    row("believed", "accepted", Prose),
    row("believes", "accepts", Prose),
    row("hear", "receive", Prose),
    row("heard", "received", Prose),
    row("hears", "receives", Prose),
    row("knows", "has, has an entry for, can determine", Prose),
    row("said", "reported, set", Prose),
    row("say", "report, show, set", Prose),
    row("says", "reports, shows, sets", Prose),
    row("saying", "reporting", Prose),
    row("speak", "send, use", Prose),
    row("speaks", "sends, uses", Prose),
    row("tell", "notify, report", Prose),
    row("tells", "notifies, reports", Prose),
    row("told", "notified, configured", Prose),
    row("wants", "requires, changes", Prose),
    row("asks", "queries, requests, requires", Prose),
    row("asked", "queried, requested", Prose),
    row("eat icmp", "drop ICMP", Prose),
    row("eats icmp", "drops ICMP", Prose),
    // Anybody is a person.
    row("anybody", "anyone, any client", Prose),
    row("everybody", "everyone, all clients", Prose),
    row("nobody", "no one, no program", Prose),
    row("somebody", "another program, someone", Prose),
    row("whoever", "anyone who", Prose),
    // Words of another language in English clothes.
    row("all the same", "anyway, too", Prose),
    row("anew", "again, from scratch", Prose),
    row("as a rule", "usually", Prose),
    row("at the moment", "currently", Prose),
    row("be had", "be used, be created", Prose),
    row("be meant", "be intended", Prose),
    row("become of", "happen to", Prose),
    row("becomes of", "happens to", Prose),
    row("beside", "next to, in addition to", Prose),
    row("besides", "in addition to", Prose),
    row("came of", "resulted from", Prose),
    row("carries on", "continues", Prose),
    row("comes of", "results from", Prose),
    row("else as", "otherwise as", Prose),
    row("else the", "otherwise the", Prose),
    row("else to", "otherwise to", Prose),
    row("give up", "abandon, discard", Prose),
    row("gives up", "abandons, discards", Prose),
    row("go on", "continue", Prose),
    row("goes before", "overrides", Prose),
    row("goes on", "continues", Prose),
    row("handed on", "passed on", Prose),
    row("hands on", "passes on", Prose),
    row("in force", "active, running, applied", Prose),
    row("in pieces", "in fragments", Prose),
    row("is gone", "no longer exists, has been removed", Prose),
    row("is up to", "depends on", Prose),
    row("leads them", "routes them", Prose),
    row("left out", "omitted, optional", Prose),
    row("let go", "released, closed", Prose),
    row("let in", "accepted", Prose),
    row("lets go", "releases, closes", Prose),
    row("made known", "announced", Prose),
    row("of late", "recently", Prose),
    row("on the way", "on the path", Prose),
    row("overworked", "overloaded", Prose),
    row("piece by piece", "fragment by fragment", Prose),
    row("put right", "restored", Prose),
    row("put together", "reassembled", Prose),
    row("puts back", "restores", Prose),
    row("puts it back", "restores it", Prose),
    row("puts it right", "restores it", Prose),
    row("puts it together", "reassembles it", Prose),
    row("puts right", "restores", Prose),
    row("puts them back", "restores them", Prose),
    row("puts them right", "restores them", Prose),
    row("seen to", "ensured", Prose),
    row("sees to it", "ensures", Prose),
    row("seldom", "rarely", Prose),
    row("so be it", "applied", Prose),
    row("stands first", "comes first", Prose),
    row("take away", "remove", Prose),
    row("take in", "accept", Prose),
    row("take over", "apply", Prose),
    row("taken away", "removed", Prose),
    row("taken in", "accepted", Prose),
    row("taken off", "removed", Prose),
    row("taken over", "applied", Prose),
    row("takes in", "accepts", Prose),
    row("takes off", "removes", Prose),
    row("takes over", "applies, becomes active", Prose),
    row("the house", "the project", Prose),
    row("the like", "similar", Prose),
    row("the very", "the same, exactly the", Prose),
    row("this very", "this", Prose),
    row("turned round", "returned", Prose),
    row("under way", "in flight", Prose),
    row("way back", "return path", Prose),
    row("no way to", "no route to", Prose),
    row("the way to", "the route to, the path to", Prose),
    row("that is no", "that is not a", Prose),
    row("what is no", "something that is not a", Prose),
    row("gives way", "makes room, yields", Prose),
    row("handed in", "passed in", Prose),
    row("has it all", "has every privilege", Prose),
    row("is of no use", "is useless", Prose),
    row("was had", "was used", Prose),
    row("with which", "that … with", Prose),
    // Clauses that begin with their object.
    row(", for he", ", because it", Prose),
    row(", for it", ", because it", Prose),
    row(", for the", ", because the", Prose),
    row(", for they", ", because they", Prose),
    row(", for whoever", ", because anyone who", Prose),
    row(". of ", "put the subject first", Prose),
    row(". that ", "put the subject first", Prose),
    row(". what ", "put the subject first", Prose),
    row(". whatever ", "put the subject first", Prose),
    row(". who ", "put the subject first", Prose),
    row(". whose ", "put the subject first", Prose),
    row(", so does", "split the sentence", Prose),
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

/// One line for each word of this scope in a text that begins on line `first`.
fn complaints(path: &Path, text: &str, comment: &[char], first: usize, scope: Scope) -> Vec<String> {
    let flat = flat(text, comment);
    let rows = WORDS.iter().filter(|row| row.scope == scope);
    rows.flat_map(|row| {
        let complaint = |line: usize| {
            format!("{}:{}: `{}`: better {}", path.display(), line + first - 1, row.pattern, row.better)
        };
        found(&flat, row.pattern).into_iter().map(complaint).collect::<Vec<_>>()
    })
    .collect()
}

/// The complaints about a whole document.
fn document_complaints(path: &Path, text: &str, comment: &[char]) -> Vec<String> {
    [Everywhere, Prose].map(|scope| complaints(path, text, comment, 1, scope)).concat()
}

/// The complaints about the prose of a source file.
fn source_complaints(path: &Path, text: &str) -> Vec<String> {
    let pieces = source::prose(text).into_iter();
    pieces.flat_map(|piece| complaints(path, &piece.text, &[], piece.line, Prose)).collect()
}

/// The glossary itself lists what is not said.
fn without_glossary(path: &Path, text: &str) -> String {
    let is_row =
        |line: &&str| path.ends_with("ARCHITECTURE.md") && line.starts_with("| ") && line.ends_with(" |");
    text.lines().map(|line| if is_row(&line) { "\n" } else { line }.to_owned() + "\n").collect()
}

/// The path in the repository, and the text.
fn sources(directory: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a readable file");
        (path.strip_prefix(root()).expect("a path in the repository").to_owned(), text)
    };
    files_under(directory, ending).into_iter().map(read).collect()
}

#[test]
fn documents_and_sources_use_the_words_of_the_list() {
    let mut wrong = Vec::new();
    for document in documents() {
        let text = without_glossary(&document.path, &document.text);
        wrong.extend(document_complaints(&document.path, &text, &['#', '>', '-', '|']));
    }
    for (path, text) in sources("config", "toml") {
        wrong.extend(document_complaints(&path, &text, &['#']));
    }
    for (path, text) in sources("src", "rs") {
        wrong.extend(complaints(&path, &text, &['/', '!'], 1, Everywhere));
    }
    assert!(wrong.is_empty(), "{} places:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_comments_texts_and_test_names_of_sources_use_the_words_of_the_list() {
    let mut wrong = Vec::new();
    for (path, text) in [sources("src", "rs"), sources("tests", "rs")].concat() {
        // This file consists of the words.
        if !path.ends_with("tests/words.rs") {
            wrong.extend(source_complaints(&path, &text));
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
