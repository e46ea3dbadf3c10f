//! The keys `scheduler`, `scheduler_flags` and `mh_table_size` of a virtual service.

use super::matchers::list;
use crate::config::ConfigError;
use crate::config::key::{Bounds, JsonKind, ValueKind};
use crate::config::kinds::{FamilyMember, escaped};
use crate::config::toml::{Block, TomlValue, quoted};
use crate::director::cluster::VirtualServiceConfig as Config;
use crate::director::scheduler::{self, Options, SCHEDULERS, mh};

/// The name of a scheduler.
pub const SCHEDULER: FamilyMember<scheduler::Row> = FamilyMember { rows: SCHEDULERS, name: |row| row.name };

// Every option of a scheduler has a row, except the hash key, which all schedulers share.
const _: fn(&Options) = |Options { has_port: _, has_fallback: _, mh_table_size: _, hash_key: _ }| {};

/// The words of `scheduler_flags` that are set.
pub fn flags_of(service: &Config) -> Vec<&'static str> {
    let options = &service.scheduler_options;
    let is_set = |flag: &&str| {
        flag.ends_with("-port") && options.has_port || flag.ends_with("-fallback") && options.has_fallback
    };
    service.scheduler.flags.iter().copied().filter(is_set).collect()
}

/// Sets the options that the words of `scheduler_flags` stand for.
pub fn set_flags(service: &mut Config, flags: Vec<&'static str>) {
    let options = &mut service.scheduler_options;
    options.has_port = flags.iter().any(|flag| flag.ends_with("-port"));
    options.has_fallback = flags.iter().any(|flag| flag.ends_with("-fallback"));
}

fn is_mh(service: &Config) -> bool {
    *service.scheduler == mh::ROW
}

/// The table size of scheduler mh, unless it is the default. Other schedulers have none.
pub fn mh_table_size_of(service: &Config) -> Option<u32> {
    let size = service.scheduler_options.mh_table_size;
    (is_mh(service) && size != mh::TABLE_SIZE_DEFAULT).then_some(size)
}

/// Sets the table size; `None` is the default.
pub fn set_mh_table_size(service: &mut Config, size: Option<u32>) {
    service.scheduler_options.mh_table_size = size.unwrap_or(mh::TABLE_SIZE_DEFAULT);
}

/// A list of flags of the service's scheduler.
pub struct SchedulerFlags;

fn known_flag(key: &str, service: &Config, word: &str) -> Result<&'static str, String> {
    let row = service.scheduler;
    let found = row.flags.iter().find(|flag| **flag == word).copied();
    found.ok_or_else(|| {
        let known = if row.flags.is_empty() { "none".to_owned() } else { row.flags.join(", ") };
        format!("{key}: {}: the flags of scheduler {} are: {known}", escaped(word), row.name)
    })
}

impl ValueKind<Config> for SchedulerFlags {
    type Value = Vec<&'static str>;

    fn read(
        &self,
        key: &str,
        service: &Config,
        block: &Block,
    ) -> Result<Option<Vec<&'static str>>, ConfigError> {
        let Some(value) = block.get(key) else { return Ok(None) };
        let read = |item: &TomlValue| {
            let flag = known_flag(key, service, block.text(item)?);
            flag.map_err(|message| block.error(item.span(), message))
        };
        block.list(value)?.iter().map(read).collect::<Result<_, _>>().map(Some)
    }

    fn text(&self, value: &Vec<&'static str>) -> Option<String> {
        Some(list(value.iter().map(|flag| quoted(flag))))
    }

    fn bounds(&self) -> Bounds {
        Bounds::values(SCHEDULERS.iter().flat_map(|row| row.flags).copied())
    }
}

impl JsonKind<Config> for SchedulerFlags {
    type Input = Vec<String>;
    type Output = Vec<String>;

    fn accept(&self, key: &str, service: &Config, input: Vec<String>) -> Result<Vec<&'static str>, String> {
        input.iter().map(|word| known_flag(key, service, word)).collect()
    }

    fn show(&self, _: &Config, value: Vec<&'static str>) -> Vec<String> {
        value.into_iter().map(str::to_owned).collect()
    }
}

/// A table size that scheduler mh supports.
pub struct MhTableSize;

fn known_size(key: &str, service: &Config, size: i64) -> Result<Option<u32>, String> {
    if !is_mh(service) {
        return Err(format!("{key} is for scheduler mh, not {}; remove it", service.scheduler.name));
    }
    let sizes = mh::TABLE_SIZES;
    let known = u32::try_from(size).ok().filter(|size| sizes.contains(size));
    known.map(Some).ok_or_else(|| {
        let sizes = sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        format!("{key} = {size}: expected one of {sizes}")
    })
}

impl ValueKind<Config> for MhTableSize {
    type Value = Option<u32>;

    fn read(&self, key: &str, service: &Config, block: &Block) -> Result<Option<Option<u32>>, ConfigError> {
        let Some(value) = block.get(key) else { return Ok(None) };
        let size = known_size(key, service, block.number(value)?);
        size.map(Some).map_err(|message| block.error(value.span(), message))
    }

    fn text(&self, value: &Option<u32>) -> Option<String> {
        value.map(|size| size.to_string())
    }

    fn bounds(&self) -> Bounds {
        Bounds::values(mh::TABLE_SIZES.iter().copied())
    }
}

impl JsonKind<Config> for MhTableSize {
    type Input = u32;
    type Output = Option<u32>;

    fn accept(&self, key: &str, service: &Config, input: u32) -> Result<Option<u32>, String> {
        known_size(key, service, input.into())
    }

    fn show(&self, service: &Config, _: Option<u32>) -> Option<u32> {
        is_mh(service).then_some(service.scheduler_options.mh_table_size)
    }
}
