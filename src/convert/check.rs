//! A check under construction: the options that every check has, and those of its kind.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::entry::{Block, Remark, Value};
use crate::health::{self, CHECKS, Options};

/// No check is made more often.
pub const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// No check takes longer; intervals are no longer either.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
/// The largest `fall`.
pub const COUNT_MAX: u32 = 1_000;

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The word of `type`.
    pub kind: &'static str,
    /// The options of its kind.
    pub options: Vec<(&'static str, Value)>,
    /// The word of `via`.
    pub via: Option<&'static str>,
    /// Where it is sent instead of the RIP.
    pub address: Option<IpAddr>,
    /// The port, if it is not the virtual service's.
    pub port: Option<u16>,
    /// From the beginning of one probe to that of the next.
    pub interval: Duration,
    /// As `interval`, after a first failure.
    pub fast_interval: Option<Duration>,
    /// For the whole probe.
    pub timeout: Duration,
    /// Failures in a row after which it is down.
    pub fall: u32,
    /// It is down before its first probe has ended.
    pub starts_down: bool,
}

impl Check {
    /// The table of the check.
    pub fn value(&self) -> Value {
        // In milliseconds, rounded up.
        let whole = |time: Duration| {
            Duration::from_millis(u64::try_from((time + Duration::from_micros(999)).as_millis()).unwrap_or(0))
        };
        let bounded = |time: Duration| Value::Duration(whole(time.clamp(INTERVAL_MIN, TIMEOUT_MAX)));
        let mut table = vec![("type", Value::text(self.kind))];
        table.extend(self.options.iter().cloned());
        table.extend(self.via.map(|via| ("via", Value::text(via))));
        table.extend(self.address.map(|address| ("address", Value::text(address.to_string()))));
        table.extend(self.port.map(|port| ("port", Value::Number(port.into()))));
        table.push(("interval", bounded(self.interval)));
        table.extend(self.fast_interval.map(|time| ("fast_interval", bounded(time))));
        table.push(("timeout", bounded(self.timeout)));
        table.push(("rise", Value::Number(1)));
        table.push(("fall", Value::Number(self.fall.clamp(1, COUNT_MAX).into())));
        table.extend(self.starts_down.then(|| ("start", Value::text("down"))));
        Value::Table(table)
    }

    /// Removes the options that its kind does not accept, with a remark for each; false if it cannot be made without them.
    pub fn settle(&mut self, origin: &Remark, block: &mut Block) -> bool {
        let Some(row) = CHECKS.iter().find(|row| row.name == self.kind) else { return true };
        loop {
            let mut options = Options::new();
            let unknown = self.options.iter().find_map(|(name, value)| {
                let known = row.options.iter().find(|option| option.name == *name);
                match known {
                    Some(known) => {
                        options.insert(known.name, plain(value));
                        None
                    }
                    None => Some((*name, format!("check {} has no option {name}", row.name))),
                }
            });
            let wrong = match unknown {
                Some(unknown) => unknown,
                None => match (row.build)(&options) {
                    Ok(_) => return true,
                    Err(wrong) => wrong,
                },
            };
            let before = self.options.len();
            self.options.retain(|(name, _)| *name != wrong.0);
            block.lose(Remark { reason: format!("{}: {}", wrong.0, wrong.1), ..origin.clone() });
            if self.options.len() == before {
                return false;
            }
        }
    }
}

/// The value as the checks have it.
fn plain(value: &Value) -> health::Value {
    let text = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        _ => String::new(),
    };
    match value {
        Value::Text(text) => health::Value::Text(text.clone()),
        Value::Number(number) => health::Value::Number(i64::try_from(*number).unwrap_or(i64::MAX)),
        Value::Flag(flag) => health::Value::Flag(*flag),
        Value::Duration(time) => health::Value::Duration(*time),
        Value::Table(table) => health::Value::Table(
            table.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect(),
        ),
        Value::List(items) => {
            let is_table = |item: &Value| matches!(item, Value::Table(_));
            if items.iter().any(is_table) {
                let tables = items.iter().map(|item| match plain(item) {
                    health::Value::Table(table) => table,
                    _ => BTreeMap::new(),
                });
                health::Value::Tables(tables.collect())
            } else {
                health::Value::Texts(items.iter().map(text).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::entry::Place;

    fn check(kind: &'static str) -> Check {
        Check {
            kind,
            options: Vec::new(),
            via: None,
            address: None,
            port: None,
            interval: Duration::from_secs(6),
            fast_interval: None,
            timeout: Duration::from_secs(3),
            fall: 2,
            starts_down: false,
        }
    }

    #[test]
    fn an_option_that_the_kind_does_not_have_is_lost_and_the_check_stays() {
        let origin = Remark::new(&Place { file: "k".into(), line: 7 }, "TCP_CHECK", "");
        let mut tcp = Check { options: vec![("colour", Value::text("red"))], ..check("tcp") };
        let mut block = Block::default();
        assert!(tcp.settle(&origin, &mut block));
        assert!(tcp.options.is_empty());
        let losses: Vec<String> = block.losses().map(ToString::to_string).collect();
        assert_eq!(losses, ["k:7: TCP_CHECK: colour: check tcp has no option colour"]);
    }

    #[test]
    fn times_and_counts_stay_within_what_a_file_may_contain() {
        let wild = Check { interval: Duration::ZERO, timeout: Duration::MAX, fall: u32::MAX, ..check("tcp") };
        let Value::Table(table) = wild.value() else { panic!("a table") };
        let of = |name| table.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
        assert_eq!(of("interval"), Some(Value::Duration(INTERVAL_MIN)));
        assert_eq!(of("timeout"), Some(Value::Duration(TIMEOUT_MAX)));
        assert_eq!(of("fall"), Some(Value::Number(1_000)));
    }
}
