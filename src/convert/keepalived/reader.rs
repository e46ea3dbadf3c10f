//! From files to lines, in the order in which keepalived works: comments, conditions, definitions, repetitions,
//! substitution, `include`. Every expansion is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::line::{is_blank, is_name, without_comment, words};
use super::sequence;
use crate::convert::Input;
use crate::convert::draft::{Block, Place, Remark};

/// How deep files, definitions and repetitions may be nested.
const DEPTH_MAX: usize = 32;
/// The number of files that one configuration may include.
const FILES_MAX: usize = 1_000;
/// The number of lines that repetitions and definitions may make.
const REPEATED_MAX: usize = 200_000;
/// The length of one line after substitution, in bytes.
const LINE_MAX: usize = 16 << 10;
/// The number of rounds of substitution in one line.
const ROUNDS_MAX: usize = 32;
/// The bytes of all files and of all rounds of substitution.
const BYTES_MAX: usize = 128 << 20;

/// A line after all of this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) text: String,
}

enum Definition {
    Text(String),
    Lines(Vec<String>),
}

/// The lines of a file and of those that it includes, and remarks about what was not read.
pub(super) fn read(input: &Input) -> (Vec<Line>, Block) {
    let mut reader = Reader {
        input,
        definitions: BTreeMap::new(),
        lines: Vec::new(),
        remarks: Block::default(),
        unused: BTreeMap::new(),
        reported: BTreeSet::new(),
        files: 0,
        repeated: 0,
        bytes: 0,
    };
    reader.file(input.name, input.text, 0);
    for (_, origin) in std::mem::take(&mut reader.unused) {
        reader.remarks.note(origin);
    }
    (reader.lines, reader.remarks)
}

struct Reader<'a> {
    input: &'a Input<'a>,
    definitions: BTreeMap<String, Definition>,
    lines: Vec<Line>,
    remarks: Block,
    /// Definitions that no line has used.
    unused: BTreeMap<String, Remark>,
    /// Places and reasons of remarks.
    reported: BTreeSet<(Place, String)>,
    files: usize,
    repeated: usize,
    bytes: usize,
}

impl Reader<'_> {
    fn file(&mut self, name: &str, text: &str, depth: usize) {
        let file: Rc<str> = name.into();
        let line = |(index, text): (usize, &str)| {
            (Place { file: Rc::clone(&file), line: index + 1 }, text.trim_end_matches('\r').to_owned())
        };
        if text.starts_with('\u{feff}') {
            let place = Place { file: Rc::clone(&file), line: 1 };
            let reason =
                "keepalived reads the byte order mark as a part of the first word, and loses its block";
            self.remarks.note(Remark::new(&place, "byte order mark", reason));
        }
        let lines: Vec<(Place, String)> =
            text.trim_start_matches('\u{feff}').split('\n').enumerate().map(line).collect();
        self.read(&lines, depth);
    }

    fn read(&mut self, lines: &[(Place, String)], depth: usize) {
        let mut open: Option<(String, Vec<String>)> = None;
        for (place, raw) in lines {
            let text = without_comment(raw);
            let text = text.trim_matches(is_blank);
            if let Some((name, mut body)) = open.take() {
                body.push(text.strip_suffix('\\').unwrap_or(text).trim().to_owned());
                if text.ends_with('\\') {
                    open = Some((name, body));
                } else {
                    self.definitions.insert(name, Definition::Lines(body));
                }
                continue;
            }
            let Some(text) = self.conditional(place, text) else { continue };
            match definition(text) {
                Some((name, "\\")) => {
                    self.unused(name, place, text);
                    open = Some((name.to_owned(), Vec::new()));
                }
                Some((name, value)) => {
                    self.unused(name, place, text);
                    self.definitions.insert(name.to_owned(), Definition::Text(value.to_owned()));
                }
                None => self.line(place, text, depth),
            }
        }
        if let Some((name, body)) = open {
            self.definitions.insert(name, Definition::Lines(body));
        }
    }

    fn unused(&mut self, name: &str, place: &Place, text: &str) {
        let remark = Remark::new(place, text, "no line uses this definition");
        self.unused.insert(name.to_owned(), remark);
    }

    /// The line without its condition, if it is fulfilled.
    fn conditional<'t>(&mut self, place: &Place, text: &'t str) -> Option<&'t str> {
        let Some(behind) = text.strip_prefix('@') else { return Some(text) };
        let (id, rest) = behind.split_once(is_blank).unwrap_or((behind, ""));
        let (is_inverted, name) = id.strip_prefix('^').map_or((false, id), |name| (true, name));
        if (name == self.input.config_id) != is_inverted {
            return Some(rest.trim_matches(is_blank));
        }
        let reason = "for another configuration id; --config-id ID selects it";
        self.remarks.note(Remark::new(place, text, reason));
        None
    }

    fn line(&mut self, place: &Place, text: &str, depth: usize) {
        if text.is_empty() {
            return;
        }
        if depth > DEPTH_MAX {
            let reason = "files, definitions and repetitions are nested too deeply";
            return self.lose(Remark::new(place, text, reason));
        }
        if text.starts_with('~') {
            return self.repeat(place, text, depth);
        }
        if let Some(name) = alone(text)
            && let Some(Definition::Lines(body)) = self.definitions.get(name)
        {
            let lines: Vec<_> = body.iter().map(|line| (place.clone(), line.clone())).collect();
            self.unused.remove(name);
            if self.may_repeat(place, text, lines.len()) {
                self.read(&lines, depth + 1);
            }
            return;
        }
        let replaced = self.substitute(place, text);
        // What stands for a mark of a comment is one.
        let replaced = if replaced == text { replaced } else { without_comment(&replaced) };
        let replaced = replaced.trim_matches(is_blank);
        if replaced.starts_with('~') {
            return self.line(place, replaced, depth + 1);
        }
        let first = replaced.split(is_blank).next().unwrap_or_default();
        if matches!(first, "include" | "includer" | "includem" | "includew" | "includeb" | "includea") {
            return self.include(place, replaced, first != "include", depth);
        }
        if !replaced.is_empty() {
            self.lines.push(Line { place: place.clone(), text: replaced.to_owned() });
        }
    }

    fn repeat(&mut self, place: &Place, text: &str, depth: usize) {
        // The bounds of the sequence may be definitions.
        let end = text.find(')').map_or(text.len(), |at| at + 1);
        let text = format!("{}{}", self.substitute(place, &text[..end]), &text[end..]);
        match sequence::parse(&text) {
            None => {
                let reason = "not a repetition: expected ~SEQ(NAME, START, STEP, END) or ~LST(NAME, VALUE)";
                self.lose(Remark::new(place, &text, reason));
            }
            Some(Err(reason)) => self.lose(Remark::new(place, &text, reason)),
            Some(Ok(sequence)) => {
                for values in sequence.repetitions {
                    if !self.may_repeat(place, &text, 1) {
                        break;
                    }
                    let mut before = Vec::new();
                    for (name, value) in values {
                        let old = self.definitions.insert(name.clone(), Definition::Text(value));
                        before.push((name, old));
                    }
                    self.line(place, sequence.rest, depth + 1);
                    for (name, old) in before {
                        match old {
                            Some(old) => self.definitions.insert(name, old),
                            None => self.definitions.remove(&name),
                        };
                    }
                }
            }
        }
    }

    /// Adds a remark, once for each line and reason: repetitions would make any number of them.
    fn lose(&mut self, remark: Remark) {
        if self.reported.insert((remark.place.clone(), remark.reason.clone())) {
            self.remarks.lose(remark);
        }
    }

    /// Counts repeated lines; from too many on, each place has a remark.
    fn may_repeat(&mut self, place: &Place, text: &str, lines: usize) -> bool {
        self.repeated = self.repeated.saturating_add(lines);
        if self.repeated > REPEATED_MAX {
            let reason = format!("repetitions and definitions make more than {REPEATED_MAX} lines");
            self.lose(Remark::new(place, text, reason));
        }
        self.repeated <= REPEATED_MAX
    }

    /// Counts bytes; the first that are too many cause a remark.
    fn may_read(&mut self, place: &Place, bytes: usize) -> bool {
        let before = self.bytes;
        self.bytes = before.saturating_add(bytes);
        if before <= BYTES_MAX && self.bytes > BYTES_MAX {
            let reason = format!("more than {} MiB in all; the rest was not read", BYTES_MAX >> 20);
            self.lose(Remark::new(place, "the configuration", reason));
        }
        self.bytes <= BYTES_MAX
    }

    /// The line with the values of definitions; an unknown name stays as it is.
    fn substitute(&mut self, place: &Place, text: &str) -> String {
        let mut text = text.to_owned();
        for _ in 0..ROUNDS_MAX {
            if !self.may_read(place, text.len()) {
                return String::new();
            }
            let next = self.substitute_once(place, &text);
            if next == text {
                return text;
            }
            text = next;
            if text.len() > LINE_MAX {
                break;
            }
        }
        let shown: String = text.chars().take(80).collect();
        self.lose(Remark::new(place, &shown, "definitions that contain each other have no end"));
        String::new()
    }

    fn substitute_once(&mut self, place: &Place, text: &str) -> String {
        let (mut replaced, mut rest) = (String::with_capacity(text.len()), text);
        while let Some((before, behind)) = rest.split_once('$') {
            replaced.push_str(before);
            let (name, after) = match behind.strip_prefix('{') {
                Some(inside) => inside.split_once('}').unwrap_or(("", behind)),
                None => {
                    let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
                    let end = behind.find(is_end).unwrap_or(behind.len());
                    let is_whole =
                        behind[end..].chars().next().is_none_or(|c| is_blank(c) || ",)".contains(c));
                    if is_whole { behind.split_at(end) } else { ("", behind) }
                }
            };
            match self.value(place, name) {
                Some(value) if replaced.len() + value.len() <= 2 * LINE_MAX => {
                    self.unused.remove(name);
                    replaced.push_str(&value);
                    rest = after;
                }
                _ => {
                    replaced.push('$');
                    rest = behind;
                }
            }
        }
        replaced.push_str(rest);
        replaced
    }

    fn value(&self, place: &Place, name: &str) -> Option<String> {
        match name {
            "_HASH" => Some("#".to_owned()),
            "_BANG" => Some("!".to_owned()),
            "_PWD" => Some(place.file.rsplit_once('/').map_or(".", |(directory, _)| directory).to_owned()),
            _ => match self.definitions.get(name)? {
                Definition::Text(text) => Some(text.clone()),
                Definition::Lines(_) => None,
            },
        }
    }

    fn include(&mut self, place: &Place, text: &str, must_exist: bool, depth: usize) {
        let words = words(text);
        let Some(pattern) = words.get(1) else {
            return self.lose(Remark::new(place, text, "a file to include is missing"));
        };
        if words.len() > 2 {
            let reason = format!("`{}` is not read; an include has one pattern", words[2..].join(" "));
            self.lose(Remark::new(place, text, reason));
        }
        let found = (self.input.include)(&place.file, pattern);
        match found {
            Ok(files) if files.is_empty() => {
                let reason = match must_exist {
                    true => "no file matches; keepalived regards this as an error",
                    false => "no file matches",
                };
                self.lose(Remark::new(place, text, reason));
            }
            Ok(files) => {
                for (name, contents) in files {
                    self.files += 1;
                    if self.files > FILES_MAX || depth >= DEPTH_MAX {
                        let reason = "files include each other without end";
                        return self.lose(Remark::new(place, text, reason));
                    }
                    if !self.may_read(place, contents.len()) {
                        return;
                    }
                    self.file(&name, &contents, depth + 1);
                }
            }
            Err(error) => self.lose(Remark::new(place, text, error)),
        }
    }
}

/// `$NAME=VALUE`.
fn definition(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.strip_prefix('$')?.split_once('=')?;
    is_name(name).then_some((name, value))
}

/// The name, if a line consists of `$NAME` or `${NAME}`.
fn alone(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
    is_name(name).then_some(name)
}
