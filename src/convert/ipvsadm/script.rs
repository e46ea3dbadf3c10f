//! Runs a script as far as it is certain what it does: assignments of constants, `for` over constants, and commands of
//! ipvsadm. Everything else is a remark.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::shell::{self, Piece, Variables, assignment};
use super::{Table, is_program};
use crate::control::ipvsadm::grammar;
use crate::control::ipvsadm::names::Names;
use crate::convert::draft::{Block, Place, Remark};

/// The number of commands that loops may make.
const COMMANDS_MAX: usize = 100_000;

/// Why a command is not converted.
const SHELL: &str = "a shell command; only lines that call ipvsadm are read";

pub(super) struct Script<'a> {
    file: Rc<str>,
    names: &'a dyn Names,
    variables: Variables,
    /// The lines that end what stands in the script as the input of a command.
    ends: Vec<String>,
    /// How many conditions, loops and functions are open.
    depth: usize,
    commands: usize,
    /// Lines and reasons of remarks: loops would make the same any number of times.
    reported: BTreeSet<(usize, String)>,
    pub(super) table: Table,
    pub(super) remarks: Block,
}

impl<'a> Script<'a> {
    pub(super) fn new(file: &str, names: &'a dyn Names) -> Script<'a> {
        Script {
            file: file.into(),
            names,
            variables: Variables::new(),
            ends: Vec::new(),
            depth: 0,
            commands: 0,
            reported: BTreeSet::new(),
            table: Table::default(),
            remarks: Block::default(),
        }
    }

    pub(super) fn run(&mut self, pieces: &[Piece]) {
        let mut index = 0;
        while let Some(piece) = pieces.get(index) {
            index += 1;
            self.commands += 1;
            if self.commands > COMMANDS_MAX {
                return self.lose(piece, format!("loops make more than {COMMANDS_MAX} commands"));
            }
            let Some(header) = without_openings(&piece.text).strip_prefix("for ") else {
                self.piece(piece, &piece.text);
                continue;
            };
            let body = &pieces[index..];
            let length = loop_length(body);
            match self.loop_values(header) {
                Ok((name, values)) => {
                    self.note(piece, "its body is repeated");
                    for value in values {
                        self.variables.insert(name.clone(), Some(value));
                        self.run(&body[..length]);
                    }
                    index += length;
                }
                Err(reason) => {
                    self.depth += 1;
                    let name = header.split_whitespace().next().unwrap_or_default();
                    self.variables.insert(name.to_owned(), None);
                    self.lose(piece, reason);
                }
            }
        }
    }

    /// `NAME in VALUE …`.
    fn loop_values(&self, header: &str) -> Result<(String, Vec<String>), String> {
        let (name, list) = header.trim().split_once(" in ").ok_or(SHELL)?;
        let found = shell::words(list, &self.variables);
        let values = found.map_err(|what| format!("{what} is known only when the script runs"))?.words;
        if values.iter().any(|value| value.contains(['*', '?', '{'])) {
            return Err("a list that the shell expands is known only when the script runs".to_owned());
        }
        if shell::is_name(name.trim()) { Ok((name.trim().to_owned(), values)) } else { Err(SHELL.to_owned()) }
    }

    /// A command behind the words of the shell that may stand before it.
    fn piece(&mut self, piece: &Piece, text: &str) {
        let text = text.trim();
        let (first, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        match first {
            "" => {}
            end if self.ends.last().is_some_and(|name| name == end) && rest.is_empty() => {
                self.ends.pop();
            }
            "then" | "do" | "{" | "(" | "!" | "time" => self.piece(piece, rest),
            "fi" | "done" | "esac" | "}" | ")" => {
                self.depth = self.depth.saturating_sub(1);
                self.rest(piece, rest);
            }
            "if" | "while" | "until" => {
                self.depth += 1;
                self.branch(piece, rest);
            }
            "elif" => self.branch(piece, rest),
            "else" => {
                self.lose(piece, "all branches are read, as if each of them ran".to_owned());
                self.piece(piece, rest);
            }
            "case" => {
                self.depth += 1;
                self.branch(piece, rest);
            }
            label if label.ends_with(')') && !label.contains(['(', '$']) => {
                self.lose(piece, "all cases are read, as if each of them ran".to_owned());
                self.piece(piece, rest);
            }
            name if name.ends_with("()") || name == "function" || rest.starts_with("()") => {
                self.depth += 1;
                let reason = "the body of a function is read, as if it ran once here";
                self.lose(piece, reason.to_owned());
                let body = text.split_once('{').map_or("", |(_, body)| body);
                self.piece(piece, body);
            }
            _ => self.command(piece, text),
        }
    }

    /// A redirection behind the end of a block.
    fn rest(&mut self, piece: &Piece, rest: &str) {
        if !rest.is_empty() {
            self.lose(piece, SHELL.to_owned());
        }
    }

    fn branch(&mut self, piece: &Piece, condition: &str) {
        let words = shell::words(condition, &self.variables).map(|found| found.words);
        if words.is_ok_and(|words| command_of(&words).is_some()) {
            self.command(piece, condition);
        }
        self.lose(piece, "a condition of the shell; what follows is read, as if it were met".to_owned());
    }

    fn command(&mut self, piece: &Piece, text: &str) {
        let found = match shell::words(text, &self.variables) {
            Ok(found) => found,
            Err(what) => return self.unknown(piece, text, &what),
        };
        for redirection in &found.redirections {
            let end = redirection.strip_prefix("<<").map(|end| end.trim_start_matches('-'));
            self.ends.extend(end.map(str::to_owned));
        }
        let words: &[String] = &found.words;
        let is_declaration = words.first().is_some_and(|word| {
            ["export", "readonly", "local", "declare", "typeset"].contains(&word.as_str())
        });
        let assigned = if is_declaration { &words[1..] } else { words };
        let is_assigned = assigned.iter().all(|word| assignment(word).is_some() || is_declaration);
        if is_assigned && (!words.is_empty() || is_declaration) {
            return assigned.iter().filter_map(|word| assignment(word)).for_each(|(name, value)| {
                self.assign(piece, name, value);
            });
        }
        match command_of(words) {
            Some(command) => {
                if !found.redirections.is_empty() {
                    self.note(piece, "the redirection does not matter here");
                }
                self.apply(piece, command);
            }
            None => self.lose(piece, reason(words).to_owned()),
        }
    }

    fn assign(&mut self, piece: &Piece, name: &str, value: &str) {
        let before = self.variables.get(name);
        let is_other = before.is_some_and(|before| before.as_deref() != Some(value));
        if self.depth > 0 && is_other {
            let reason = format!(
                "${name} has another value elsewhere; which one counts is known only when the script runs"
            );
            self.variables.insert(name.to_owned(), None);
            return self.lose(piece, reason);
        }
        self.variables.insert(name.to_owned(), Some(value.to_owned()));
        self.note(piece, "its value stands where the variable was");
    }

    /// A command with a value that exists only while the script runs.
    fn unknown(&mut self, piece: &Piece, text: &str, what: &str) {
        let reason = format!("{what} is known only when the script runs; write the line with the value");
        for word in text.split_whitespace() {
            match assignment(word) {
                Some((name, _)) => self.variables.insert(name.to_owned(), None),
                None if ["export", "readonly", "local", "declare", "typeset"].contains(&word) => continue,
                None => break,
            };
        }
        let is_ours = text
            .split_whitespace()
            .any(|word| is_program(word) || word.starts_with('$') || assignment(word).is_some());
        self.lose(piece, if is_ours { reason } else { SHELL.to_owned() });
    }

    fn apply(&mut self, piece: &Piece, words: &[String]) {
        let words: Vec<String> = words.iter().filter(|word| !is_program(word)).cloned().collect();
        let remark = self.remark(piece, "");
        let command = grammar::parse(&words, self.names).map_err(|error| refusal(&error.text));
        if let Err(reason) = command.and_then(|command| self.table.apply(command, &remark)) {
            self.lose(piece, reason);
        }
    }

    fn remark(&self, piece: &Piece, reason: &str) -> Remark {
        Remark::new(&Place { file: Rc::clone(&self.file), line: piece.line + 1 }, &piece.text, reason)
    }

    fn lose(&mut self, piece: &Piece, reason: String) {
        if self.is_new(piece, &reason) {
            let remark = self.remark(piece, &reason);
            self.remarks.lose(remark);
        }
    }

    fn note(&mut self, piece: &Piece, reason: &str) {
        if self.is_new(piece, reason) {
            let remark = self.remark(piece, reason);
            self.remarks.note(remark);
        }
    }

    fn is_new(&mut self, piece: &Piece, reason: &str) -> bool {
        self.reported.insert((piece.line, format!("{}: {reason}", piece.text)))
    }
}

/// The command without the words of the shell that may stand before a loop.
fn without_openings(text: &str) -> &str {
    let opened = ["do ", "then ", "{ "].iter().find_map(|word| text.strip_prefix(word));
    opened.map_or(text, |rest| without_openings(rest.trim_start()))
}

/// The number of commands up to the `done` of a loop, which is one of them.
fn loop_length(pieces: &[Piece]) -> usize {
    let mut depth = 1_usize;
    for (index, piece) in pieces.iter().enumerate() {
        match without_openings(&piece.text).split_whitespace().next() {
            Some("for" | "while" | "until") => depth += 1,
            Some("done") => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    pieces.len()
}

/// The command of ipvsadm that these words call, with or without its name.
fn command_of(words: &[String]) -> Option<&[String]> {
    let mut rest = words;
    loop {
        let (first, behind) = rest.split_first()?;
        let name = first.rsplit('/').next().unwrap_or_default();
        rest = match name {
            _ if is_program(first) => return Some(behind),
            _ if first.starts_with('-') => return (rest.len() == words.len()).then_some(rest),
            "exec" | "command" | "nohup" | "env" | "eval" => behind,
            "sudo" | "doas" => without_options(behind),
            _ if assignment(first).is_some() => behind,
            _ => return None,
        };
    }
}

/// Behind the options of sudo(8); `-u`, `-g`, `-h` and `-p` have a value.
fn without_options(mut words: &[String]) -> &[String] {
    while let Some((option, behind)) = words.split_first().filter(|(word, _)| word.starts_with('-')) {
        let has_value = ["-u", "-g", "-h", "-p"].contains(&option.as_str());
        words = if has_value { behind.get(1..).unwrap_or_default() } else { behind };
    }
    words
}

/// Why a command of another program is not converted.
fn reason(words: &[String]) -> &'static str {
    let first = words.first().map_or("", |word| word.rsplit('/').next().unwrap_or_default());
    match first {
        "ipvsadm-restore" => "convert the rules that it reads, too",
        "ipvsadm-save" => "it changes nothing that a configuration contains",
        "modprobe" | "insmod" => "a shell command; the director needs no kernel module but tun",
        "ip" | "ifconfig" | "arping" => "a shell command; the director captures and announces the VIP itself",
        "sysctl" => "a shell command; the director sets what it needs, and restores it",
        _ => SHELL,
    }
}

/// The first line of a message of ipvsadm, unless it is the help.
fn refusal(text: &str) -> String {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let is_help = first.starts_with("ipvsadm v") || first.starts_with("Usage");
    if first.is_empty() || is_help {
        "ipvsadm does not accept this line".to_owned()
    } else {
        first.to_owned()
    }
}
