//! Lines and blocks of ldirectord.cf.

use std::cell::Cell;
use std::rc::Rc;

use crate::convert::Input;
use crate::convert::draft::{Block, Place, Remark};

/// `key = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Something follows from it.
    is_used: Cell<bool>,
    pub(super) place: Place,
    pub(super) text: String,
    pub(super) key: String,
    pub(super) value: String,
}

impl Line {
    /// A remark about this line.
    pub(super) fn remark(&self, reason: impl Into<String>) -> Remark {
        Remark::new(&self.place, &self.text, reason)
    }

    /// Marks that something follows from it.
    pub(super) fn used(&self) -> &Line {
        self.is_used.set(true);
        self
    }

    pub(super) fn is_used(&self) -> bool {
        self.is_used.get()
    }
}

/// A virtual service: the line that opens it, and its lines.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) head: Line,
    pub(super) lines: Vec<Line>,
}

#[derive(Debug, Default)]
pub(super) struct Blocks {
    pub(super) globals: Vec<Line>,
    pub(super) services: Vec<Service>,
}

/// Reads a file. A line of a block has at least four blanks or a tab; a blank line or one with less ends the block.
pub(super) fn read(input: &Input, top: &mut Block) -> Blocks {
    let (mut file, mut is_open, name) = (Blocks::default(), false, Rc::<str>::from(input.name));
    let mut has_returns = false;
    for (index, raw) in input.text.split('\n').enumerate() {
        let place = Place { file: Rc::clone(&name), line: index + 1 };
        let line = raw.trim_end_matches('\r');
        if line.len() < raw.len() && !has_returns {
            has_returns = true;
            let reason = "ldirectord refuses lines that end with CR";
            top.note(Remark::new(&place, line.trim(), reason));
        }
        let indentation: usize = line
            .chars()
            .map_while(|c| [' ', '\t'].contains(&c).then_some(if c == '\t' { 4 } else { 1 }))
            .sum();
        let text = line.trim_matches([' ', '\t']);
        if text.starts_with('#') {
            continue;
        }
        if text.is_empty() {
            is_open = false;
            continue;
        }
        let is_inside = is_open && indentation >= 4;
        let cut = if is_inside { text.split('#').next().unwrap_or_default().trim_end() } else { text };
        // A remark shows the whole text if the cut is within quotes.
        let text = if cut.matches('"').count() % 2 == 1 { text } else { cut };
        let Some((key, value)) = cut.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
            top.lose(Remark::new(&place, text, "expected KEY = VALUE; ldirectord refuses the file"));
            continue;
        };
        let (key, value, text) = (key.to_owned(), value.to_owned(), text.to_owned());
        let line = Line { is_used: Cell::new(false), place, text, key, value };
        match line.key.as_str() {
            _ if is_inside => {
                file.services.last_mut().into_iter().for_each(|open| open.lines.push(line.clone()))
            }
            _ if indentation > 0 => {
                is_open = false;
                let reason =
                    "an indented line that belongs to no virtual service; ldirectord refuses the file";
                top.lose(line.remark(reason));
            }
            "virtual" | "virtual6" => {
                is_open = true;
                file.services.push(Service { head: line, lines: Vec::new() });
            }
            _ => {
                is_open = false;
                file.globals.push(line);
            }
        }
    }
    file
}
