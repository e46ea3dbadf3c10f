//! `timeouts`, at the top and of a virtual service.

use crate::config::ConfigError;
use crate::config::json::Seconds;
use crate::config::key::{Found, Served, Takes, keys};
use crate::config::kinds::Timeout;
use crate::config::toml::{Block, Lines};
use crate::director::connection::Timeouts as Config;

keys! {
    TIMEOUT_KEYS of Config { established, fin_wait, udp }
    edited "Of the three, those that are to change." TimeoutsSpec
    shown "How long a connection is remembered without a packet." Timeouts;

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

/// The three together.
pub struct Table;

impl<C: HasTimeouts> Takes<C> for Table {
    type Value = Config;

    fn read(&self, key: &str, config: &C, block: &Block) -> Result<Option<Config>, ConfigError> {
        let Some(block) = block.below(key, "timeouts.tcp = \"15m\"")? else { return Ok(None) };
        let mut timeouts = *config.timeouts();
        let mut known = Vec::new();
        TIMEOUT_KEYS.iter().for_each(|key| key.names(&mut known));
        block.check_known(&known)?;
        for key in TIMEOUT_KEYS {
            key.read(&mut timeouts, &block)?;
        }
        Ok(Some(timeouts))
    }

    fn text(&self, _: &Config) -> Option<String> {
        None
    }

    fn explained(&self, name: &'static str, found: &mut Vec<String>) {
        found.extend(TIMEOUT_KEYS.iter().map(|key| format!("{name}.{}", key.name())));
    }

    fn write(&self, key: &str, value: &Config, unsaid: Option<&Config>, lines: &mut Lines) {
        TIMEOUT_KEYS.iter().for_each(|inner| inner.write_below(&format!("{key}."), value, unsaid, lines));
    }

    fn compare(&self, key: &str, old: &Config, new: &Config, found: &mut Found) {
        TIMEOUT_KEYS.iter().for_each(|inner| inner.compare(&format!("{key}."), old, new, found));
    }

    fn merge(&self, base: &Config, file: &Config, mut next: Config) -> Config {
        TIMEOUT_KEYS.iter().for_each(|inner| inner.merge(base, file, &mut next));
        next
    }
}

/// What has timeouts of its own.
pub trait HasTimeouts {
    fn timeouts(&self) -> &Config;
}

impl<C: HasTimeouts> Served<C> for Table {
    type Asked = TimeoutsSpec;
    type Shown = Timeouts;

    fn accept(&self, _: &str, config: &C, asked: TimeoutsSpec) -> Result<Config, String> {
        edited(*config.timeouts(), &asked)
    }

    fn show(&self, _: &C, value: Config) -> Timeouts {
        (&value).into()
    }
}

/// Timeouts after those that are to change.
///
/// # Errors
/// One sentence about what is asked for.
pub fn edited(before: Config, edit: &TimeoutsSpec) -> Result<Config, String> {
    let mut next = before;
    edit.take(&mut next).map_err(|message| format!("timeouts.{message}"))?;
    Ok(next)
}
