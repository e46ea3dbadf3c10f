//! The keys of a virtual service, and what it receives.

use std::net::IpAddr;

use super::lines::Line;

/// The keys of a block, and those of the whole file.
pub(super) struct Keys<'a> {
    pub(super) own: &'a [Line],
    pub(super) globals: &'a [&'a Line],
}

impl<'a> Keys<'a> {
    /// The line of the block, else that of the file.
    pub(super) fn line(&self, key: &str) -> Option<&'a Line> {
        self.own(key).or_else(|| self.globals.iter().copied().find(|line| line.key == key))
    }

    /// The line of the block.
    pub(super) fn own(&self, key: &str) -> Option<&'a Line> {
        self.own.iter().rev().find(|line| line.key == key)
    }

    /// The value of the line, without quotes.
    pub(super) fn value(&self, key: &str) -> Option<&'a str> {
        self.line(key).map(Line::unquoted)
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

/// A number; text behind it is ignored, as ldirectord does.
pub(super) fn leading_number(text: &str) -> Option<u32> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().ok()
}
