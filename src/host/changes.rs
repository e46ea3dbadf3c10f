//! The ledger of changes on the host: makes, checks, repairs and undoes them.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::change::{Change, Device, Observed, Presence, Replaced, Undone};
use super::error::HostError;
use super::journal::{Journal, JournalPlace, Record};
use super::netlink::Netlink;
use crate::trouble::{Found, TroubleKind};

/// The pause after the first repair of a change; it doubles with each further one.
const REPAIR_PAUSE: Duration = Duration::from_secs(10);

/// The longest pause between two repairs of the same change. A change that held this long counts as settled.
const REPAIR_PAUSE_MAX: Duration = Duration::from_secs(600);

/// A lost device takes thousands of changes with it, for one reason.
const TROUBLES_MAX: usize = 8;

/// Whether the ledger may touch the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostChanges {
    /// Changes the host and undoes it at the end, which needs CAP_NET_ADMIN.
    #[default]
    Make,
    /// `--no-host-changes`: change nothing; [`Changes::commands`] returns the commands that are needed.
    Print,
}

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the host needs; also the key by which [`Changes::settle`] finds the entry.
    pub change: Change,
    /// Made by this daemon or a killed predecessor, hence undone at the end.
    pub is_ours: bool,
    /// It existed before, with this program's protocol number.
    is_adopted: bool,
    /// Whether the host was as the change requires when last checked.
    pub is_in_force: bool,
    /// The value that the end restores.
    replaced: Option<Replaced>,
    /// As the journal has it.
    record: Option<Record>,
    /// Why the last attempt to make it again failed.
    failure: Option<String>,
    repairs: u32,
    repaired_at: Option<Instant>,
}

impl Entry {
    fn of(change: &Change) -> Entry {
        Entry {
            change: change.clone(),
            is_ours: false,
            is_adopted: false,
            is_in_force: true,
            replaced: None,
            record: None,
            failure: None,
            repairs: 0,
            repaired_at: None,
        }
    }

    fn trouble(&self, mode: HostChanges) -> Found {
        let change = &self.change;
        let text = match (mode, &self.failure) {
            (HostChanges::Print, _) => format!("{change} is missing; run: {}", change.command()),
            (_, Some(failure)) => format!("{change} is missing and cannot be restored: {failure}"),
            (_, None) => {
                let pause = self.pause().as_secs();
                format!(
                    "{change} is missing: another program undoes it again and again; restored every {pause} s"
                )
            }
        };
        let is_needed = change.is_needed();
        let kind = if is_needed { TroubleKind::ChangeMissing } else { TroubleKind::SettingMissing };
        Found { kind, subject: change.to_string(), text }
    }

    fn pause(&self) -> Duration {
        REPAIR_PAUSE.saturating_mul(1 << self.repairs.saturating_sub(1).min(16)).min(REPAIR_PAUSE_MAX)
    }
}

/// The changes that a daemon needs on its host, in the order in which they were made.
pub struct Changes {
    netlink: Netlink,
    mode: HostChanges,
    entries: Vec<Entry>,
    journal: Journal,
    /// Of the journal, until it is opened with the first change.
    place: Option<JournalPlace>,
}

impl Changes {
    /// An empty ledger, which has touched nothing yet. A journal adds the changes of killed daemons.
    pub fn new(netlink: Netlink, mode: HostChanges, journal: Option<&JournalPlace>) -> Changes {
        let place = journal.filter(|_| mode == HostChanges::Make).cloned();
        Changes { netlink, mode, entries: Vec::new(), journal: Journal::default(), place }
    }

    /// Brings the host to `wanted`: first makes the missing changes, in the order given, then undoes those that
    /// are not in the list any more, newest first. The ledger records changes that exist already, and leaves
    /// them alone at the end.
    ///
    /// Stops at the first change that fails; earlier ones stay on the host and in the ledger.
    pub async fn settle(&mut self, wanted: &[Change]) -> Result<(), HostError> {
        if let Some(place) = self.place.take() {
            self.journal = Journal::open(&place);
        }
        // Thousands of VIPs need twice as many changes, so each is looked up by hash.
        let made: HashSet<&Change> = self.entries.iter().map(|entry| &entry.change).collect();
        let missing: Vec<&Change> = wanted.iter().filter(|change| !made.contains(change)).collect();
        if !missing.is_empty() {
            let observed = Observed::query(&self.netlink, &missing).await?;
            for change in missing {
                self.make(change, &observed).await?;
            }
        }
        let wanted: HashSet<&Change> = wanted.iter().collect();
        self.undo_where(|change| !wanted.contains(change)).await;
        Ok(())
    }

    /// Checks that every change is still in place, warns about those that are not and repairs them. A change
    /// that is undone again and again is repaired at growing intervals.
    pub async fn audit(&mut self) {
        let changes: Vec<&Change> = self.entries.iter().map(|entry| &entry.change).collect();
        let observed = match Observed::query(&self.netlink, &changes).await {
            Ok(observed) => observed,
            Err(error) => {
                return tracing::warn!(
                    kind = "host_unknown",
                    "host: cannot check the host's settings: {error}"
                );
            }
        };
        for index in 0..self.entries.len() {
            let presence = self.entries[index].change.presence(&observed).unwrap_or(Presence::Absent);
            let entry = &mut self.entries[index];
            let was_in_force = std::mem::replace(&mut entry.is_in_force, presence != Presence::Absent);
            if entry.is_in_force {
                entry.failure = None;
                if entry.repaired_at.is_some_and(|at| at.elapsed() > REPAIR_PAUSE_MAX) {
                    (entry.repairs, entry.repaired_at) = (0, None);
                }
                continue;
            }
            match self.mode {
                HostChanges::Print if was_in_force => {
                    tracing::warn!(
                        kind = "change_missing",
                        "host: {} is missing; run: {}",
                        entry.change,
                        entry.change.command()
                    );
                }
                HostChanges::Print => {}
                HostChanges::Make => self.repair(index).await,
            }
        }
    }

    /// Resets the pauses between repairs: after a device has come up again, everything that the kernel
    /// removed while it was down is to be repaired at once.
    pub fn forget_repairs(&mut self) {
        for entry in &mut self.entries {
            (entry.repairs, entry.repaired_at) = (0, None);
        }
    }

    /// An interface has another name now, and so have its settings.
    pub fn rename_interface(&mut self, from: &str, to: &Device) {
        for entry in &mut self.entries {
            entry.change = entry.change.clone().renamed(from, to);
        }
    }

    /// The changes that the daemon cannot do without and that are not in place; the first ones, if there are many.
    pub fn troubles(&self) -> Vec<Found> {
        let missing = self.entries.iter().filter(|entry| !entry.is_in_force && !entry.change.is_optional());
        missing.take(TROUBLES_MAX).map(|entry| entry.trouble(self.mode)).collect()
    }

    /// Continues with another connection, because the previous one broke.
    pub fn reconnect(&mut self, netlink: Netlink) {
        self.netlink = netlink;
    }

    /// Undoes what was made here and leaves what was adopted: a start that fails may have found the settings
    /// of a running daemon, not of a killed one. The changes in the journal are those of a killed one.
    pub async fn undo_made(&mut self) {
        for entry in self.entries.extract_if(.., |entry| entry.is_adopted) {
            if let Some(record) = &entry.record {
                self.journal.undone(record);
            }
        }
        self.undo_all().await;
    }

    /// Undoes everything that was made here, newest first. Changes that cannot be undone are logged and left.
    pub async fn undo_all(&mut self) {
        self.undo_where(|_| true).await;
        self.undo_inherited().await;
        self.journal.end();
    }

    /// Undoes what the journals of killed daemons contain and this daemon does not need.
    pub async fn undo_inherited(&mut self) {
        let left: Vec<(Change, Option<Replaced>, Record)> = self
            .journal
            .take_rest()
            .into_iter()
            .map(|record| {
                let (change, replaced) = Change::of_record(&record);
                (change, replaced, record)
            })
            .collect();
        let now = self.look_at(&left.iter().map(|(change, ..)| change).collect::<Vec<_>>()).await;
        for (change, replaced, record) in left {
            tracing::info!("host: {change} was left by a killed daemon");
            let entry = Entry { is_ours: true, replaced, record: Some(record), ..Entry::of(&change) };
            self.undo(entry, &now).await;
        }
    }

    /// Every change the daemon depends on, in the order in which they were made.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The commands for every change that is not in place; with [`HostChanges::Make`] usually none.
    pub fn commands(&self) -> Vec<String> {
        self.entries.iter().filter(|entry| !entry.is_in_force).map(|entry| entry.change.command()).collect()
    }

    async fn make(&mut self, change: &Change, observed: &Observed) -> Result<(), HostError> {
        let mut entry = Entry::of(change);
        // Settings of an absent device cannot be read either; with `Print` the commands are still needed.
        let presence = match (change.presence(observed), self.mode) {
            (Err(_), HostChanges::Print) => Presence::Absent,
            (presence, _) => presence?,
        };
        if self.mode == HostChanges::Print {
            if presence == Presence::Foreign {
                tracing::info!("host: {change} already exists");
            }
            entry.is_in_force = presence != Presence::Absent;
            entry.is_adopted = presence == Presence::Ours;
            self.entries.push(entry);
            return Ok(());
        }
        let found = change.replaced()?;
        let inherited = self.inherited(change, found, presence);
        entry.replaced = inherited.as_ref().map_or(found, |record| Change::of_record(record).1);
        entry.record = change.record(entry.replaced);
        match presence {
            Presence::Foreign if inherited.is_none() => {
                tracing::info!("host: {change} already exists");
                entry.record = None;
            }
            Presence::Foreign | Presence::Ours => {
                tracing::info!(kind = "change_adopted", change = %change, "host: adopted {change}");
                entry.is_ours = true;
                entry.is_adopted = inherited.is_none();
                self.write_down(&entry);
            }
            Presence::Absent => {
                entry.is_ours = true;
                self.apply(&mut entry).await?;
            }
        }
        self.entries.push(entry);
        Ok(())
    }

    async fn apply(&mut self, entry: &mut Entry) -> Result<(), HostError> {
        let Entry { change, replaced, .. } = &*entry;
        self.write_down(entry);
        match change.apply(&self.netlink).await {
            Ok(()) => match replaced {
                Some(replaced) => {
                    tracing::info!(kind = "change_made", change = %change, "host: set {change} (was {})", replaced.value)
                }
                None => tracing::info!(kind = "change_made", change = %change, "host: added {change}"),
            },
            Err(error @ HostError::Netlink { .. }) if change.is_optional() => {
                tracing::warn!(kind = "change_missing", change = %change, "host: {change} is missing: {error}");
                entry.is_in_force = false;
            }
            Err(error) => {
                self.forget(entry);
                return Err(error);
            }
        }
        Ok(())
    }

    /// What a killed daemon has recorded about this change; `None` if none has, or if another program has changed it since.
    fn inherited(&mut self, change: &Change, found: Option<Replaced>, presence: Presence) -> Option<Record> {
        let record = self.journal.take_inherited(&change.record(found)?)?;
        let is_as_left = match &record {
            Record::Sysctl { value, .. } => found.is_some_and(|found| found.value == *value),
            // Where the devices are others now, it is replaced.
            Record::AnswerRoute { .. } => true,
            Record::Proxy { .. }
            | Record::CaptureRule { .. }
            | Record::LoopRule { .. }
            | Record::ProbeRule { .. } => presence == Presence::Ours,
        };
        if !is_as_left {
            self.journal.undone(&record);
        }
        is_as_left.then_some(record)
    }

    fn write_down(&mut self, entry: &Entry) {
        if let Some(record) = &entry.record {
            self.journal.made(record.clone());
        }
    }

    fn forget(&mut self, entry: &Entry) {
        if let Some(record) = &entry.record {
            self.journal.undone(record);
        }
    }

    async fn repair(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        if entry.repaired_at.is_some_and(|at| at.elapsed() < entry.pause()) {
            return;
        }
        entry.repairs += 1;
        entry.repaired_at = Some(Instant::now());
        let pause = entry.pause().as_secs();
        // The end restores the value that another program has set meanwhile.
        let found = entry.change.replaced().unwrap_or(entry.replaced);
        if let Some(record) = entry.change.record(found) {
            self.journal.made(record.clone());
            entry.record = Some(record);
        }
        match entry.change.apply(&self.netlink).await {
            Ok(()) => {
                entry.replaced = found;
                (entry.is_ours, entry.is_in_force, entry.failure) = (true, true, None);
                tracing::warn!(
                    kind = "change_repaired",
                    "host: {} was undone by the kernel or another program{}; restored (next attempt no sooner than {pause} s)",
                    entry.change,
                    found.map(|found| format!(" (found {})", found.value)).unwrap_or_default()
                );
            }
            // Logged once for as long as it lasts: see `Changes::troubles`.
            Err(error) => entry.failure = Some(error.to_string()),
        }
    }

    /// Undoes what was made here and is unwanted, newest first, and forgets it.
    async fn undo_where(&mut self, is_unwanted: impl Fn(&Change) -> bool) {
        let unwanted = self.entries.iter().filter(|entry| entry.is_ours && is_unwanted(&entry.change));
        let unwanted: Vec<&Change> = unwanted.map(|entry| &entry.change).collect();
        let now = self.look_at(&unwanted).await;
        for index in (0..self.entries.len()).rev() {
            if is_unwanted(&self.entries[index].change) {
                let entry = self.entries.remove(index);
                let mut newer = self.entries[index..].iter();
                if entry.is_ours && !newer.any(|newer| newer.change.replaces(&entry.change)) {
                    self.undo(entry, &now).await;
                }
            }
        }
    }

    async fn look_at(&self, changes: &[&Change]) -> Observed {
        match Observed::query(&self.netlink, changes).await {
            Ok(now) => now,
            Err(error) => {
                tracing::warn!(kind = "host_unknown", "host: cannot check the host's settings: {error}");
                Observed::default()
            }
        }
    }

    async fn undo(&mut self, entry: Entry, now: &Observed) {
        let Entry { change, replaced, .. } = &entry;
        match change.undo(&self.netlink, now, *replaced).await {
            Ok(Undone::Removed) => match replaced {
                Some(replaced) => {
                    tracing::info!(kind = "change_undone", change = %change, "host: reset {change} to {}", replaced.value)
                }
                None => tracing::info!(kind = "change_undone", change = %change, "host: removed {change}"),
            },
            Ok(Undone::Left(why)) => {
                tracing::info!(kind = "change_left", change = %change, "host: left {change}: {why}")
            }
            Err(error) if error.is_gone() => tracing::info!("host: {change} was already gone"),
            // It stays in the journal until the next start.
            Err(error) => {
                return tracing::warn!(kind = "undo_failed", change = %change, "host: could not remove {change}: {error}");
            }
        }
        self.forget(&entry);
    }
}
