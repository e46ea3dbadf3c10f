//! From lines to statements with their blocks.

use super::line::{Piece, command_words, is_blank, pieces, words};
use super::reader::Line;
use crate::convert::draft::{Block, Place, Remark};

/// How deep blocks may be nested; keepalived has four levels.
const DEPTH_MAX: usize = 64;

/// A keyword with its arguments, and its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) place: Place,
    /// The text of the line without its comment.
    pub(super) text: String,
    /// The keyword and its arguments.
    pub(super) words: Vec<String>,
    pub(super) block: Option<Vec<Statement>>,
}

impl Statement {
    /// The keyword.
    pub(super) fn keyword(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// An argument, counted from 1.
    pub(super) fn argument(&self, index: usize) -> Option<&str> {
        self.words.get(index).map(String::as_str)
    }

    /// The arguments in the grammar of commands.
    pub(super) fn command(&self) -> Vec<String> {
        let behind = self.text.split_once(is_blank).map_or("", |(_, behind)| behind);
        command_words(behind)
    }

    /// The statements of its block.
    pub(super) fn statements(&self) -> &[Statement] {
        self.block.as_deref().unwrap_or_default()
    }

    /// A remark about this statement and its block.
    pub(super) fn lost(&self, reason: impl Into<String>) -> Remark {
        /// More than a remark shows.
        const TEXT_MAX: usize = 2_000;
        let mut text = String::new();
        let mut open = vec![std::slice::from_ref(self).iter()];
        while let Some(level) = open.last_mut() {
            match level.next() {
                _ if text.len() > TEXT_MAX => break,
                Some(statement) => {
                    text.push_str(if text.is_empty() || text.ends_with("{ ") { "" } else { "; " });
                    text.push_str(&statement.text);
                    if let Some(block) = &statement.block {
                        text.push_str(" { ");
                        open.push(block.iter());
                    }
                }
                None => {
                    open.pop();
                    if !open.is_empty() {
                        text.push_str(" }");
                    }
                }
            }
        }
        Remark::new(&self.place, &text, reason)
    }

    /// A remark about this statement.
    pub(super) fn remark(&self, reason: impl Into<String>) -> Remark {
        let text = if self.text.is_empty() { "{" } else { &self.text };
        Remark::new(&self.place, text, reason)
    }
}

/// The statements, and remarks about braces.
pub(super) fn read(lines: Vec<Line>, remarks: &mut Block) -> Vec<Statement> {
    let mut tree = Tree { levels: vec![Vec::new()], too_deep: 0, remarks };
    let last = lines.last().map(|line| line.place.clone());
    for line in lines {
        for piece in pieces(&line.text) {
            match piece {
                Piece::Words(text) => tree.levels.last_mut().into_iter().for_each(|level| {
                    level.push(Statement {
                        place: line.place.clone(),
                        text: text.to_owned(),
                        words: words(text),
                        block: None,
                    });
                }),
                Piece::Open => tree.open(&line.place),
                Piece::Close => tree.close(&line.place),
            }
        }
    }
    if let Some(place) = last
        && tree.levels.len() > 1
    {
        let reason = "a } is missing before the end of the file; keepalived uses the block, too";
        let open = tree.levels[tree.levels.len() - 2].last();
        let remark = open.map_or_else(|| Remark::new(&place, "{", reason), |open| open.remark(reason));
        tree.remarks.note(remark);
        while tree.levels.len() > 1 {
            tree.pop();
        }
    }
    tree.levels.pop().unwrap_or_default()
}

struct Tree<'a> {
    /// The statements of the blocks that are open, the outermost first.
    levels: Vec<Vec<Statement>>,
    /// Braces within blocks that are nested too deeply.
    too_deep: usize,
    remarks: &'a mut Block,
}

impl Tree<'_> {
    /// A block belongs to the last statement, unless that has one.
    fn open(&mut self, place: &Place) {
        if self.levels.len() > DEPTH_MAX {
            if self.too_deep == 0 {
                self.remarks.lose(Remark::new(place, "{", "blocks are nested too deeply"));
            }
            self.too_deep += 1;
            return;
        }
        let level = self.levels.last_mut();
        if let Some(level) = level
            && level.last().is_none_or(|last| last.block.is_some())
        {
            let place = place.clone();
            level.push(Statement { place, text: String::new(), words: Vec::new(), block: None });
        }
        // The block is known to be there before it ends.
        self.levels.last_mut().and_then(|level| level.last_mut()).into_iter().for_each(|owner| {
            owner.block = Some(Vec::new());
        });
        self.levels.push(Vec::new());
    }

    fn close(&mut self, place: &Place) {
        if self.too_deep > 0 {
            self.too_deep -= 1;
        } else if self.levels.len() > 1 {
            self.pop();
        } else {
            self.remarks.note(Remark::new(place, "}", "there is no { for it; keepalived ignores it, too"));
        }
    }

    fn pop(&mut self) {
        let Some(block) = self.levels.pop() else { return };
        if let Some(owner) = self.levels.last_mut().and_then(|level| level.last_mut()) {
            owner.block = Some(block);
        }
    }
}
