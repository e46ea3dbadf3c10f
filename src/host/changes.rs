//! The ledger of changes on the host: makes, checks, repairs and undoes them.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::change::{Change, Observed, Presence, Undone};
use super::error::HostError;
use super::netlink::Netlink;

/// The pause after the first repair of a change; it doubles with each further one.
const REPAIR_PAUSE: Duration = Duration::from_secs(10);

/// The longest pause between two repairs of the same change. A change that held this long counts as settled.
const REPAIR_PAUSE_MAX: Duration = Duration::from_secs(600);

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
    /// A sysctl's previous value.
    previous: Option<i64>,
    repairs: u32,
    repaired_at: Option<Instant>,
}

impl Entry {
    fn pause(&self) -> Duration {
        REPAIR_PAUSE.saturating_mul(1 << self.repairs.saturating_sub(1).min(16)).min(REPAIR_PAUSE_MAX)
    }
}

/// The changes that a daemon needs on its host, in the order in which they were made.
pub struct Changes {
    netlink: Netlink,
    mode: HostChanges,
    entries: Vec<Entry>,
}

impl Changes {
    /// An empty ledger, which has touched nothing yet.
    pub fn new(netlink: Netlink, mode: HostChanges) -> Changes {
        Changes { netlink, mode, entries: Vec::new() }
    }

    /// Brings the host to `wanted`: first makes the missing changes, in the order given, then undoes those that
    /// are not in the list any more, newest first. The ledger records changes that exist already, and leaves
    /// them alone at the end.
    ///
    /// Stops at the first change that fails; earlier ones stay on the host and in the ledger.
    pub async fn settle(&mut self, wanted: &[Change]) -> Result<(), HostError> {
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
            Err(error) => return tracing::warn!("host: cannot check the host's settings: {error}"),
        };
        for index in 0..self.entries.len() {
            let presence = self.entries[index].change.presence(&observed).unwrap_or(Presence::Absent);
            let entry = &mut self.entries[index];
            let was_in_force = std::mem::replace(&mut entry.is_in_force, presence != Presence::Absent);
            if entry.is_in_force {
                if entry.repaired_at.is_some_and(|at| at.elapsed() > REPAIR_PAUSE_MAX) {
                    (entry.repairs, entry.repaired_at) = (0, None);
                }
                continue;
            }
            match self.mode {
                HostChanges::Print if was_in_force => {
                    tracing::warn!("host: {} is missing; run: {}", entry.change, entry.change.command());
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

    /// Continues with another connection, because the previous one broke.
    pub fn reconnect(&mut self, netlink: Netlink) {
        self.netlink = netlink;
    }

    /// Undoes what was made here and leaves what was adopted: a start that fails may have found the settings
    /// of a running daemon, not of a killed one.
    pub async fn undo_made(&mut self) {
        self.entries.retain(|entry| !entry.is_adopted);
        self.undo_all().await;
    }

    /// Undoes everything that was made here, newest first. Changes that cannot be undone are logged and left.
    pub async fn undo_all(&mut self) {
        self.undo_where(|_| true).await;
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
        let mut entry = Entry {
            change: change.clone(),
            is_ours: false,
            is_adopted: false,
            is_in_force: true,
            previous: None,
            repairs: 0,
            repaired_at: None,
        };
        // Settings of an absent device cannot be read either; with `Print` the commands are still needed.
        let presence = match (change.presence(observed), self.mode) {
            (Err(_), HostChanges::Print) => Presence::Absent,
            (presence, _) => presence?,
        };
        match (presence, self.mode) {
            (Presence::Foreign, _) => tracing::info!("host: {change} already exists"),
            (Presence::Ours, mode) => {
                tracing::info!("host: adopted {change}");
                entry.is_ours = mode == HostChanges::Make;
                entry.is_adopted = true;
            }
            (Presence::Absent, HostChanges::Print) => entry.is_in_force = false,
            (Presence::Absent, HostChanges::Make) => {
                entry.is_ours = true;
                entry.previous = match change.apply(&self.netlink).await {
                    Err(error @ HostError::Netlink { .. }) if change.is_optional() => {
                        tracing::warn!("host: {change} is missing: {error}");
                        entry.is_in_force = false;
                        self.entries.push(entry);
                        return Ok(());
                    }
                    applied => applied?,
                };
                match entry.previous {
                    Some(value) => tracing::info!("host: set {change} (was {value})"),
                    None => tracing::info!("host: added {change}"),
                }
            }
        }
        self.entries.push(entry);
        Ok(())
    }

    async fn repair(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        if entry.repaired_at.is_some_and(|at| at.elapsed() < entry.pause()) {
            return;
        }
        entry.repairs += 1;
        entry.repaired_at = Some(Instant::now());
        let pause = entry.pause().as_secs();
        match entry.change.apply(&self.netlink).await {
            Ok(found) => {
                // Undo restores the value from before the daemon started, not one that was set in the
                // meantime.
                if !entry.is_ours {
                    entry.previous = found;
                }
                (entry.is_ours, entry.is_in_force) = (true, true);
                tracing::warn!(
                    "host: {} was undone by the kernel or another program{}; restored (next attempt no sooner than {pause} s)",
                    entry.change,
                    found.map(|value| format!(" (found {value})")).unwrap_or_default()
                );
            }
            Err(error) => {
                tracing::warn!("host: {} is missing and cannot be restored: {error}", entry.change);
            }
        }
    }

    /// Undoes what was made here and is unwanted, newest first, and forgets it.
    async fn undo_where(&mut self, is_unwanted: impl Fn(&Change) -> bool) {
        let unwanted = self.entries.iter().filter(|entry| entry.is_ours && is_unwanted(&entry.change));
        let unwanted: Vec<&Change> = unwanted.map(|entry| &entry.change).collect();
        let now = match Observed::query(&self.netlink, &unwanted).await {
            Ok(now) => now,
            Err(error) => {
                tracing::warn!("host: cannot check the host's settings: {error}");
                Observed::default()
            }
        };
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

    async fn undo(&self, entry: Entry, now: &Observed) {
        let Entry { change, previous, .. } = entry;
        match change.undo(&self.netlink, now, previous).await {
            Ok(Undone::Removed) => match previous {
                Some(value) => tracing::info!("host: reset {change} to {value}"),
                None => tracing::info!("host: removed {change}"),
            },
            Ok(Undone::Left(why)) => tracing::info!("host: left {change}: {why}"),
            Err(error) if error.is_gone() => tracing::info!("host: {change} was already gone"),
            Err(error) => tracing::warn!("host: could not remove {change}: {error}"),
        }
    }
}
