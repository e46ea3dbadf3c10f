//! Configuration files. [`mod@toml`] parses the text, [`keys`] describes every key in one row, and [`plan`] is the valid
//! result. [`diff`] compares and merges plans, [`write`](mod@write) turns a plan into text.
//!
//! Pure: text in, plan out. Every error names the file, the line and the key, and states what was expected.

pub mod advice;
pub mod consistency;
pub mod diff;
pub mod json;
pub mod key;
pub mod keys;
pub mod kinds;
pub mod plan;
mod suggest;
pub mod toml;
pub mod types;
pub mod write;

use std::fmt;
use std::ops::Range;

/// Why a configuration is rejected, in one line: where, what, what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The name of the file, as given.
    pub file: String,
    /// Counted from 1; `None` if the error concerns the file as a whole.
    pub line: Option<usize>,
    /// What is wrong, and what was expected.
    pub message: String,
    /// Whether a required key is missing.
    pub is_missing_key: bool,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// No more errors of one file are looked for once there are so many: each needs a walk through the file.
const ERRORS_MAX: usize = 100;

/// The text of one file; turns byte ranges into line numbers.
pub struct Source<'a> {
    /// The name of the file, as given.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}

impl Source<'_> {
    /// An error about the bytes in `span`.
    pub fn error(&self, span: Range<usize>, message: impl Into<String>) -> ConfigError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        ConfigError {
            file: self.name.to_owned(),
            line: Some(line),
            message: one_line(message.into()),
            is_missing_key: false,
        }
    }

    /// An error about the file as a whole.
    pub fn error_whole(&self, message: impl Into<String>) -> ConfigError {
        ConfigError {
            file: self.name.to_owned(),
            line: None,
            message: one_line(message.into()),
            is_missing_key: false,
        }
    }
}

/// A message is one line that hides nothing, whatever the file contains.
fn one_line(message: String) -> String {
    let mut line = String::with_capacity(message.len());
    for c in message.chars() {
        match c {
            c if c.is_control() => line.push(' '),
            c if kinds::is_misleading(c) => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
    }
    line
}

/// The beginning of a text from a file: a long line must not make a long message.
fn clipped(written: &str) -> String {
    const SHOWN_MAX: usize = 80;
    let mut shown: String = written.chars().take(SHOWN_MAX).collect();
    if shown.len() < written.len() {
        shown.push('…');
    }
    shown
}
