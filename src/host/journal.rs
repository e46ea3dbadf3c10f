//! The journal of changes: a file under /run with the changes of a daemon that may be killed.
//!
//! ```text
//! {"journal":1,"namespace":"5f0c…/4026531840"}                                    whose it is
//! {"made":{"sysctl":{"key":"net/ipv4/conf/eth0/rp_filter","value":2,"previous":1}}}    before the change is made
//! {"undone":{"sysctl":{…}}}                                                       after it was undone
//! ```
//! A line is written before its change is made, so a kill loses no change; a line that is cut short belongs to a
//! change that was never made. A daemon holds a lock on its file: a file without a lock is that of a killed daemon,
//! and the next daemon of the same network namespace adopts it, whatever device it has. A stopped daemon removes
//! its file.
//!
//! Without a journal (/run cannot be written, the file is not readable) the daemon works, with a warning.

mod file;
mod text;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use file::JournalFile;

use super::probe_packets::{Carrier, Direction};

/// Where the journal of a daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalPlace {
    /// Made if it does not exist.
    pub directory: PathBuf,
    /// BOOT/NAMESPACE: no other network namespace has the same, not even one that has ended.
    pub namespace: String,
    /// The file's name without its extension: role and device.
    pub name: String,
}

/// A change that outlives a killed daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// The value that was written, and what it replaced.
    Sysctl { key: String, value: i64, previous: i64, all: Option<i64> },
    /// An entry that answers ARP.
    Proxy { address: Ipv4Addr, device: String, index: u32 },
    /// The rule for packets that arrive on the interface.
    CaptureRule { interface: String },
    /// The rule for packets from the device to the VIP.
    LoopRule { vip: Ipv4Addr, device: String },
    /// A rule for the packets of checks, or for the validation of their answers.
    ProbeRule { direction: Direction, carrier: Carrier },
    /// The route for the validation of answers from the VIP.
    AnswerRoute { vip: Ipv4Addr },
}

impl Record {
    /// Whether both are about the same setting or object.
    pub(super) fn is_about_the_same(&self, other: &Record) -> bool {
        match (self, other) {
            (Record::Sysctl { key, .. }, Record::Sysctl { key: other, .. }) => key == other,
            (this, other) => this == other,
        }
    }
}

/// The journal of a running daemon. The default one writes no file.
#[derive(Debug, Default)]
pub(super) struct Journal {
    file: Option<JournalFile>,
    /// Made and not undone, in the order of the file.
    records: Vec<Record>,
    /// Those of killed daemons that no change of this daemon has matched yet.
    inherited: Vec<Record>,
}

impl Journal {
    /// Adopts the records of killed daemons of this namespace, and begins a file of its own. Problems are logged.
    pub(super) fn open(place: &JournalPlace) -> Journal {
        let (file, inherited) = file::begin(place);
        Journal { file, records: inherited.clone(), inherited }
    }

    /// What a killed daemon has recorded about the same setting or object; handed out once.
    pub(super) fn take_inherited(&mut self, record: &Record) -> Option<Record> {
        let place = self.inherited.iter().position(|found| found.is_about_the_same(record))?;
        Some(self.inherited.remove(place))
    }

    /// The rest of the killed daemons' records, newest first.
    pub(super) fn take_rest(&mut self) -> Vec<Record> {
        let mut rest = std::mem::take(&mut self.inherited);
        rest.reverse();
        rest
    }

    /// To be called before the change is made. A record about the same setting is replaced.
    pub(super) fn made(&mut self, record: Record) {
        if self.records.contains(&record) {
            return;
        }
        self.append(&text::Line::Made(record.clone()));
        self.records.retain(|found| !found.is_about_the_same(&record));
        self.records.push(record);
    }

    /// To be called after the change is undone, or when it has become another program's.
    pub(super) fn undone(&mut self, record: &Record) {
        let count = self.records.len();
        self.records.retain(|found| !found.is_about_the_same(record));
        if self.records.len() < count {
            self.append(&text::Line::Undone(record.clone()));
        }
        if self.file.as_ref().is_some_and(|file| file.is_long(self.records.len())) {
            self.file = self.file.take().and_then(|file| file.shortened(&self.records));
        }
    }

    /// Removes the file, unless something could not be undone.
    pub(super) fn end(&mut self) {
        if self.records.is_empty()
            && let Some(file) = self.file.take()
        {
            file.remove();
        }
    }

    fn append(&mut self, line: &text::Line) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.append(line)
        {
            tracing::warn!("host: cannot write {}: {error}; {}", file.path().display(), file::CONSEQUENCE);
            self.file = None;
        }
    }
}

#[cfg(test)]
mod tests;
