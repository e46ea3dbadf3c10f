//! keepalived.conf(5). `reader` turns files into lines, `tree` lines into statements, the others statements into a draft.
//!
//! keepalived does not stop at an error: it logs the line, ignores it, and uses the default. So does this, with a remark.

mod checker;
mod globals;
mod group;
mod keywords;
mod line;
mod reader;
mod real_server;
mod root;
mod sequence;
mod timing;
mod tree;
mod value;
mod virtual_server;

use super::Input;
use super::draft::Draft;

/// Whether a file that begins with this word is keepalived's.
pub fn is_root(word: &str) -> bool {
    root::is_root(word)
}

/// Converts a configuration.
pub fn draft(input: &Input) -> Draft {
    let mut draft = Draft::default();
    let (lines, remarks) = reader::read(input);
    draft.top = remarks;
    let statements = tree::read(lines, &mut draft.top);
    root::draft(&statements, &mut draft);
    draft
}
