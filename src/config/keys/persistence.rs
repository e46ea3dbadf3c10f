//! `persistence` of a virtual service.

use crate::config::ConfigError;
use crate::config::json::Seconds;
use crate::config::key::{Found, Served, Takes, keys};
use crate::config::kinds::{Flag, Number, Timeout};
use crate::config::toml::{Block, Lines};
use crate::director::cluster::Persistence as Config;

keys! {
    PERSISTENCE_KEYS of Config { timeout, prefix_v4, expires_quiesced } aside { prefix_v6 }
    whole "A client's later connections go where its first one went." Persistence;

    /// Seconds after the last new connection; left out: 360.
    plain timeout "timeout" [Seconds] in timeout [], Timeout, |_, _| Config::TIMEOUT_DEFAULT, Live;
    /// Clients that share this many leading bits are one client; left out: 32.
    plain prefix "prefix" [u8] in prefix_v4 [], Number::<u8>::new(1..=32), |_, _| 32, Live;
    /// A real server of weight 0 loses its clients with their next connection.
    plain expire_quiesced "expire_quiesced" [bool] in expires_quiesced [], Flag, |_, _| false, Live;
}

/// The table, which turns persistence on.
pub struct Table;

impl<C> Takes<C> for Table {
    type Value = Option<Config>;

    fn read(&self, key: &str, _: &C, block: &Block) -> Result<Option<Option<Config>>, ConfigError> {
        let Some(block) = block.below(key, "persistence.timeout = \"6m\"")? else { return Ok(None) };
        let mut persistence = Config::default();
        crate::config::key::read(PERSISTENCE_KEYS, &[], &mut persistence, &Default::default(), &block)?;
        Ok(Some(Some(persistence)))
    }

    fn text(&self, _: &Option<Config>) -> Option<String> {
        None
    }

    fn explained(&self, name: &'static str, found: &mut Vec<String>) {
        found.extend(PERSISTENCE_KEYS.iter().map(|key| format!("{name}.{}", key.name())));
    }

    fn write(&self, key: &str, value: &Option<Config>, _: Option<&Option<Config>>, lines: &mut Lines) {
        let Some(value) = value else { return };
        PERSISTENCE_KEYS.iter().for_each(|inner| inner.write_below(&format!("{key}."), value, None, lines));
    }

    fn compare(&self, key: &str, old: &Option<Config>, new: &Option<Config>, found: &mut Found) {
        let prefix = format!("{key}.");
        match (old, new) {
            (None, None) => {}
            (Some(old), Some(new)) => {
                PERSISTENCE_KEYS.iter().for_each(|inner| inner.compare(&prefix, old, new, found));
            }
            // It is turned on or off: every key of it comes or goes.
            (one, other) => {
                let mut lines = Lines::new();
                let all = one.as_ref().or(other.as_ref()).copied();
                Takes::<C>::write(self, key, &all, None, &mut lines);
                for (key, text) in lines {
                    let (from, to) =
                        if one.is_some() { (text, String::new()) } else { (String::new(), text) };
                    found(&key, from, to);
                }
            }
        }
    }

    fn merge(&self, base: &Option<Config>, file: &Option<Config>, next: Option<Config>) -> Option<Config> {
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

impl<C> Served<C> for Table {
    type Asked = Option<Persistence>;
    type Shown = Option<Persistence>;

    fn accept(&self, key: &str, _: &C, asked: Option<Persistence>) -> Result<Option<Config>, String> {
        let Some(asked) = asked else { return Ok(None) };
        let mut persistence = Config::default();
        asked.take(&format!("{key}."), &mut persistence)?;
        Ok(Some(persistence))
    }

    fn show(&self, _: &C, value: Option<Config>) -> Option<Persistence> {
        value.as_ref().map(Into::into)
    }
}
