//! `-R`: saved commands as one change.
//!
//! Deviation: the real program applies one line after the other, so that an error leaves half of them
//! applied. Here all lines are read first, and the director applies all of them in one step, or none.

use super::IpvsadmError;
use super::grammar;
use super::names::Names;
use super::options::Verb;
use super::served;
use crate::control::model::Operation;

/// One line of a restore.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    /// For the message if nothing changes: see [`super::served`].
    pub verb: Verb,
    /// As the API applies it.
    pub operation: Operation,
    /// Printed once the change has succeeded.
    pub note: Option<String>,
}

/// Reads all lines. A line may begin with `ipvsadm`; empty lines and lines that begin with `#` are skipped.
///
/// # Errors
/// The refusal of the first wrong line, with its number.
pub fn parse(text: &str, names: &dyn Names) -> Result<Vec<Line>, IpvsadmError> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words = line.split([' ', '\t', '\r', '\n']).filter(|word| !word.is_empty());
        let words: Vec<String> = words.skip_while(|word| *word == "ipvsadm").map(str::to_owned).collect();
        if words.first().is_none_or(|word| word.starts_with('#')) {
            continue;
        }
        let number = index + 1;
        let read = grammar::parse(&words, names).and_then(|command| {
            let verb = command.change().ok_or_else(|| {
                IpvsadmError::usage(
                    "lvs-tund: a restore is one change; lines can add, edit, delete, clear, zero and --set",
                )
            })?;
            let note = served::note(&command);
            Ok(Line { number, verb, operation: served::operation(&command)?, note })
        });
        lines.push(read.map_err(|refusal| at_line(refusal, number))?);
    }
    Ok(lines)
}

/// The refusal together with the number of its line.
pub fn at_line(refusal: IpvsadmError, number: usize) -> IpvsadmError {
    let text = format!("{}\nlvs-tund: line {number} of the restore; nothing was changed", refusal.text);
    IpvsadmError { text, ..refusal }
}
