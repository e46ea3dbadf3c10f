//! The keys below `persistence` of a virtual service.

use crate::config::ConfigError;
use crate::config::json::Seconds;
use crate::config::key::{self, JsonKind, OnDifference, ValueKind, keys, no_other_place};
use crate::config::kinds::{Flag, Number, Timeout};
use crate::config::toml::{Block, Lines};
use crate::config::types::ServiceDefaults;
use crate::director::cluster::Persistence as PersistenceConfig;

keys! {
    PERSISTENCE_KEYS of PersistenceConfig { timeout, prefix_v4, expires_quiesced } aside { prefix_v6 }
    whole "Later connections of a client go to the real server of its first one." Persistence;

    /// Seconds after the last new connection until the client is forgotten; default: 360.
    plain timeout "timeout" [Seconds] in timeout [], Timeout, |_, _| PersistenceConfig::TIMEOUT_DEFAULT, Live;
    /// Clients that share this many leading bits count as one client; default: 32.
    plain prefix "prefix" [u8] in prefix_v4 [], Number::<u8>::new(1..=32), |_, _| 32, Live;
    /// Whether a real server with weight 0 loses its clients with their next connection.
    plain expire_quiesced "expire_quiesced" [bool] in expires_quiesced [], Flag, |_, _| false, Live;
}

/// The table; any key in it turns persistence on.
pub struct PersistenceTable;

impl<C> ValueKind<C> for PersistenceTable {
    type Value = Option<PersistenceConfig>;

    fn read(
        &self,
        key: &str,
        _: &C,
        block: &Block,
    ) -> Result<Option<Option<PersistenceConfig>>, ConfigError> {
        let Some(block) = block.below(key, "persistence.timeout = \"6m\"")? else { return Ok(None) };
        let mut persistence = PersistenceConfig::default();
        let defaults = ServiceDefaults::default();
        let errors = key::read(PERSISTENCE_KEYS, &[], no_other_place, &mut persistence, &defaults, &block);
        errors.into_iter().next().map_or(Ok(Some(Some(persistence))), Err)
    }

    fn text(&self, _: &Option<PersistenceConfig>) -> Option<String> {
        None
    }

    fn explained(&self, name: &'static str, found: &mut Vec<String>) {
        found.extend(PERSISTENCE_KEYS.iter().map(|key| format!("{name}.{}", key.name())));
    }

    fn write(
        &self,
        key: &str,
        value: &Option<PersistenceConfig>,
        _: Option<&Option<PersistenceConfig>>,
        lines: &mut Lines,
    ) {
        let Some(value) = value else { return };
        let prefix = format!("{key}.");
        PERSISTENCE_KEYS.iter().for_each(|inner| inner.write_below(&prefix, value, None, lines));
    }

    fn compare(
        &self,
        key: &str,
        old: &Option<PersistenceConfig>,
        new: &Option<PersistenceConfig>,
        found: &mut OnDifference,
    ) {
        let prefix = format!("{key}.");
        match (old, new) {
            (None, None) => {}
            (Some(old), Some(new)) => {
                PERSISTENCE_KEYS.iter().for_each(|inner| inner.compare(&prefix, old, new, found));
            }
            // Persistence is turned on or off: every key is added or removed.
            (one, other) => {
                let mut lines = Lines::new();
                let all = one.as_ref().or(other.as_ref()).copied();
                ValueKind::<C>::write(self, key, &all, None, &mut lines);
                for (key, text) in lines {
                    let (from, to) =
                        if one.is_some() { (text, String::new()) } else { (String::new(), text) };
                    found(&key, from, to);
                }
            }
        }
    }

    fn merge(
        &self,
        base: &Option<PersistenceConfig>,
        file: &Option<PersistenceConfig>,
        next: Option<PersistenceConfig>,
    ) -> Option<PersistenceConfig> {
        match (base, file, next) {
            (Some(base), Some(file), Some(mut next)) => {
                PERSISTENCE_KEYS.iter().for_each(|inner| inner.merge(base, file, &mut next));
                Some(next)
            }
            (base, file, next) => {
                if base == file {
                    next
                } else {
                    *file
                }
            }
        }
    }
}

impl<C> JsonKind<C> for PersistenceTable {
    type Input = Option<Persistence>;
    type Output = Option<Persistence>;

    fn accept(
        &self,
        key: &str,
        _: &C,
        input: Option<Persistence>,
    ) -> Result<Option<PersistenceConfig>, String> {
        let Some(input) = input else { return Ok(None) };
        let mut persistence = PersistenceConfig::default();
        input.apply(&format!("{key}."), &mut persistence)?;
        Ok(Some(persistence))
    }

    fn show(&self, _: &C, value: Option<PersistenceConfig>) -> Option<Persistence> {
        value.as_ref().map(Into::into)
    }
}
