//! The keys of a virtual service, and what it receives.

use std::net::IpAddr;

use super::lines::Line;
use super::shape;
use crate::convert::draft::Block;

/// The lines with their values as ldirectord reads them, and remarks about the rest. The last of two lines with the same key
/// counts, unless `may_repeat` has the key.
pub(super) fn effective(
    lines: &[Line],
    may_repeat: &[&str],
    is_global: bool,
    refused: &mut Vec<Line>,
    block: &mut Block,
) -> Vec<Line> {
    let mut read: Vec<Line> = Vec::new();
    for line in lines {
        match shape::read(&line.key, &line.value, is_global) {
            Ok((value, rest)) => {
                if !rest.is_empty() {
                    block.lose(line.remark(format!("`{rest}` is ignored, as ldirectord does")));
                }
                let mut line = line.clone();
                line.value = value;
                read.push(line);
            }
            Err(reason) => {
                let is_cut = line.text.matches('"').count() > line.value.matches('"').count();
                let cut = if is_cut { "# cuts the line, even within quotes; " } else { "" };
                block.lose(line.remark(format!("{cut}{reason}; ldirectord refuses the file")));
                refused.push(line.clone());
            }
        }
    }
    let mut kept = Vec::new();
    for (index, line) in read.iter().enumerate() {
        let is_same = |other: &&Line| other.key == line.key && !may_repeat.contains(&line.key.as_str());
        match read[index + 1..].iter().find(is_same) {
            Some(later) => block.lose(line.remark(format!("line {} replaces it", later.place.line))),
            None => kept.push(line.clone()),
        }
    }
    kept
}

/// The keys of a block, and those of the whole file.
pub(super) struct Keys<'a> {
    pub(super) own: &'a [Line],
    pub(super) globals: &'a [Line],
    /// Lines of the block that ldirectord refuses.
    pub(super) refused: &'a [Line],
}

impl<'a> Keys<'a> {
    /// The line of the block, else that of the file.
    pub(super) fn line(&self, key: &str) -> Option<&'a Line> {
        self.own(key).or_else(|| self.global(key))
    }

    /// The line of the block.
    pub(super) fn own(&self, key: &str) -> Option<&'a Line> {
        self.own.iter().rev().find(|line| line.key == key).map(Line::used)
    }

    /// The line of the whole file.
    pub(super) fn global(&self, key: &str) -> Option<&'a Line> {
        self.globals.iter().find(|line| line.key == key).map(Line::used)
    }

    /// The line of the block, which may turn out to be without effect.
    pub(super) fn own_unmarked(&self, key: &str) -> Option<&'a Line> {
        self.own.iter().rev().find(|line| line.key == key)
    }

    /// The line of the whole file, which may turn out to be without effect.
    pub(super) fn global_unmarked(&self, key: &str) -> Option<&'a Line> {
        self.globals.iter().find(|line| line.key == key)
    }

    /// The value of the line.
    pub(super) fn value(&self, key: &str) -> Option<&'a str> {
        self.line(key).map(|line| line.value.as_str())
    }

    /// The value of the line of the block.
    pub(super) fn own_value(&self, key: &str) -> Option<&'a str> {
        self.own(key).map(|line| line.value.as_str())
    }

    pub(super) fn is_yes(&self, key: &str) -> bool {
        self.value(key) == Some("yes")
    }
}

/// What a virtual service receives.
pub(super) struct At {
    /// `None` with a firewall mark.
    pub(super) vip: Option<IpAddr>,
    /// As written: the mark, or the VIP.
    pub(super) name: String,
    /// 0: all, or none.
    pub(super) port: u16,
    pub(super) protocol: &'static str,
}
