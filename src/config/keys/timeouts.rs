//! The keys below `timeouts`, at the top of the file and of a virtual service.

use crate::config::ConfigError;
use crate::config::json::Seconds;
use crate::config::key::{JsonKind, OnDifference, ValueKind, keys, names, no_other_place};
use crate::config::kinds::Timeout;
use crate::config::toml::{Block, Lines};
use crate::director::connection::Timeouts as TimeoutsConfig;

keys! {
    TIMEOUT_KEYS of TimeoutsConfig { established, fin_wait, udp }
    edit "Changes to the timeouts; absent keys keep their values." TimeoutsSpec
    view "How long an idle connection is remembered." Timeouts;

    /// Seconds without a packet after which an established TCP connection is forgotten.
    optional tcp "tcp" [Seconds] in established [],
        Timeout, |_, defaults| defaults.timeouts.established, Live;
    /// Seconds after the client's FIN.
    optional tcp_fin "tcp_fin" [Seconds] in fin_wait [],
        Timeout, |_, defaults| defaults.timeouts.fin_wait, Live;
    /// Seconds after the client's last datagram.
    optional udp "udp" [Seconds] in udp [], Timeout, |_, defaults| defaults.timeouts.udp, Live;
}

impl Copy for TimeoutsSpec {}

impl Eq for TimeoutsSpec {}

impl Copy for Timeouts {}

/// The table of all three.
pub struct TimeoutsTable;

impl<C: HasTimeouts> ValueKind<C> for TimeoutsTable {
    type Value = TimeoutsConfig;

    fn read(&self, key: &str, config: &C, block: &Block) -> Result<Option<TimeoutsConfig>, ConfigError> {
        let Some(block) = block.below(key, "timeouts.tcp = \"15m\"")? else { return Ok(None) };
        let mut timeouts = *config.timeouts();
        if let Some(error) = block.unknown_keys(&names(TIMEOUT_KEYS), no_other_place).into_iter().next() {
            return Err(error);
        }
        for key in TIMEOUT_KEYS {
            key.read(&mut timeouts, &block)?;
        }
        Ok(Some(timeouts))
    }

    fn text(&self, _: &TimeoutsConfig) -> Option<String> {
        None
    }

    fn explained(&self, name: &'static str, found: &mut Vec<String>) {
        found.extend(TIMEOUT_KEYS.iter().map(|key| format!("{name}.{}", key.name())));
    }

    fn write(&self, key: &str, value: &TimeoutsConfig, default: Option<&TimeoutsConfig>, lines: &mut Lines) {
        let prefix = format!("{key}.");
        TIMEOUT_KEYS.iter().for_each(|inner| inner.write_below(&prefix, value, default, lines));
    }

    fn compare(&self, key: &str, old: &TimeoutsConfig, new: &TimeoutsConfig, found: &mut OnDifference) {
        TIMEOUT_KEYS.iter().for_each(|inner| inner.compare(&format!("{key}."), old, new, found));
    }

    fn merge(
        &self,
        base: &TimeoutsConfig,
        file: &TimeoutsConfig,
        mut next: TimeoutsConfig,
    ) -> TimeoutsConfig {
        TIMEOUT_KEYS.iter().for_each(|inner| inner.merge(base, file, &mut next));
        next
    }
}

/// A configuration that has timeouts.
pub trait HasTimeouts {
    /// Its timeouts.
    fn timeouts(&self) -> &TimeoutsConfig;
}

impl<C: HasTimeouts> JsonKind<C> for TimeoutsTable {
    type Input = TimeoutsSpec;
    type Output = Timeouts;

    fn accept(&self, _: &str, config: &C, input: TimeoutsSpec) -> Result<TimeoutsConfig, String> {
        edited(*config.timeouts(), &input)
    }

    fn show(&self, _: &C, value: TimeoutsConfig) -> Timeouts {
        (&value).into()
    }
}

/// The timeouts after an edit.
///
/// # Errors
/// One sentence about the first value that is not accepted.
pub fn edited(before: TimeoutsConfig, edit: &TimeoutsSpec) -> Result<TimeoutsConfig, String> {
    let mut next = before;
    edit.apply(&mut next).map_err(|message| format!("timeouts.{message}"))?;
    Ok(next)
}
