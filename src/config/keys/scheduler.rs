//! `scheduler`, `scheduler_flags` and `mh_table_size` of a virtual service.

use super::matchers::list;
use crate::config::ConfigError;
use crate::config::key::{Bounds, Served, Takes};
use crate::config::kinds::{Member, escaped};
use crate::config::toml::{Block, Value, quoted};
use crate::director::cluster::VirtualServiceConfig;
use crate::director::scheduler::{self, Options, SCHEDULERS, mh};

pub const SCHEDULER: Member = Member(|| SCHEDULERS.iter().map(|row| row.name).collect());

// Every option of a scheduler has a row, but for the key that all of them share.
const _: fn(&Options) = |Options { has_port: _, has_fallback: _, mh_table_size: _, hash_key: _ }| {};

pub fn row(service: &VirtualServiceConfig) -> &'static scheduler::Row {
    scheduler::find(service.scheduler).unwrap_or(scheduler::DEFAULT)
}

/// The words of `scheduler_flags` that are in force.
pub fn flags_of(service: &VirtualServiceConfig) -> Vec<&'static str> {
    let options = &service.scheduler_options;
    let is_set = |flag: &&str| {
        flag.ends_with("-port") && options.has_port || flag.ends_with("-fallback") && options.has_fallback
    };
    row(service).flags.iter().copied().filter(is_set).collect()
}

pub fn set_flags(service: &mut VirtualServiceConfig, flags: Vec<&'static str>) {
    let options = &mut service.scheduler_options;
    options.has_port = flags.iter().any(|flag| flag.ends_with("-port"));
    options.has_fallback = flags.iter().any(|flag| flag.ends_with("-fallback"));
}

fn is_mh(service: &VirtualServiceConfig) -> bool {
    service.scheduler == mh::ROW.name
}

/// Where it is not the default, for other schedulers may not have it at all.
pub fn mh_table_size_of(service: &VirtualServiceConfig) -> Option<u32> {
    let size = service.scheduler_options.mh_table_size;
    (is_mh(service) && size != mh::TABLE_SIZE_DEFAULT).then_some(size)
}

pub fn set_mh_table_size(service: &mut VirtualServiceConfig, size: Option<u32>) {
    service.scheduler_options.mh_table_size = size.unwrap_or(mh::TABLE_SIZE_DEFAULT);
}

/// Words that the scheduler has.
pub struct SchedulerFlags;

fn known_flag(key: &str, service: &VirtualServiceConfig, word: &str) -> Result<&'static str, String> {
    let row = row(service);
    let found = row.flags.iter().find(|flag| **flag == word).copied();
    found.ok_or_else(|| {
        let known = if row.flags.is_empty() { "none".to_owned() } else { row.flags.join(", ") };
        format!("{key}: {}: the flags of scheduler {} are: {known}", escaped(word), row.name)
    })
}

impl Takes<VirtualServiceConfig> for SchedulerFlags {
    type Value = Vec<&'static str>;

    fn read(
        &self,
        key: &str,
        service: &VirtualServiceConfig,
        block: &Block,
    ) -> Result<Option<Vec<&'static str>>, ConfigError> {
        let Some(value) = block.get(key) else { return Ok(None) };
        let read = |item: &Value| {
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

impl Served<VirtualServiceConfig> for SchedulerFlags {
    type Asked = Vec<String>;
    type Shown = Vec<String>;

    fn accept(
        &self,
        key: &str,
        service: &VirtualServiceConfig,
        asked: Vec<String>,
    ) -> Result<Vec<&'static str>, String> {
        asked.iter().map(|word| known_flag(key, service, word)).collect()
    }

    fn show(&self, _: &VirtualServiceConfig, value: Vec<&'static str>) -> Vec<String> {
        value.into_iter().map(str::to_owned).collect()
    }
}

/// One of the sizes of mh's table.
pub struct MhTableSize;

fn known_size(key: &str, service: &VirtualServiceConfig, size: i64) -> Result<Option<u32>, String> {
    if !is_mh(service) {
        return Err(format!("{key} is for scheduler mh, not {}; remove it", service.scheduler));
    }
    let sizes = mh::TABLE_SIZES;
    let known = u32::try_from(size).ok().filter(|size| sizes.contains(size));
    known.map(Some).ok_or_else(|| {
        let sizes = sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        format!("{key} = {size}: expected one of {sizes}")
    })
}

impl Takes<VirtualServiceConfig> for MhTableSize {
    type Value = Option<u32>;

    fn read(
        &self,
        key: &str,
        service: &VirtualServiceConfig,
        block: &Block,
    ) -> Result<Option<Option<u32>>, ConfigError> {
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

impl Served<VirtualServiceConfig> for MhTableSize {
    type Asked = u32;
    type Shown = Option<u32>;

    fn accept(&self, key: &str, service: &VirtualServiceConfig, asked: u32) -> Result<Option<u32>, String> {
        known_size(key, service, asked.into())
    }

    fn show(&self, service: &VirtualServiceConfig, _: Option<u32>) -> Option<u32> {
        is_mh(service).then_some(service.scheduler_options.mh_table_size)
    }
}
