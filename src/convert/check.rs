//! A check under construction: the options that every check has, and those of its kind.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::entry::{Block, Remark, Value};
use crate::health::{self, CHECKS, Options, Transport};

/// No check is made more often.
pub const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// No check takes longer; intervals are no longer either.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
/// The largest `fall`.
pub const COUNT_MAX: u32 = 1_000;

/// The lines that a check comes from. Two checks are the same wherever they come from.
#[derive(Clone, Debug)]
pub struct Origin(pub Remark);

impl PartialEq for Origin {
    fn eq(&self, _: &Origin) -> bool {
        true
    }
}

impl Eq for Origin {}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Where it comes from.
    pub origin: Origin,
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

    /// Replaces what the director would refuse by a check that it accepts, with a remark. Without a condition the answer is not
    /// looked at as closely; another option is part of what is sent, and without it the check would be another one.
    pub fn settle(&mut self, block: &mut Block) {
        if let Some(address) = self.address.filter(IpAddr::is_ipv6) {
            self.address = None;
            return self.stand_in(&format!("{address} is an IPv6 address, and checks use IPv4"), block);
        }
        while let Some((option, reason)) = self.wrong() {
            let count = self.options.len();
            self.options.retain(|(name, _)| *name != option || !CONDITIONS.contains(&option));
            if self.options.len() < count {
                let stand_in = "the check below makes the same request without this condition";
                self.lose(&format!("{option}: {reason}; {stand_in}"), block);
            } else {
                return self.stand_in(&format!("{option}: {reason}"), block);
            }
        }
    }

    /// A check of the connection, or of the host, in the place of this one.
    pub fn stand_in(&mut self, reason: &str, block: &mut Block) {
        let row = CHECKS.iter().find(|row| row.name == self.kind);
        let is_stream = row
            .is_some_and(|row| matches!((row.transport)(&Options::new()), Transport::Tcp | Transport::Tls));
        let what = if is_stream { "checks only that a connection is accepted" } else { "is only a ping" };
        self.lose(&format!("{reason}; the check below {what}"), block);
        self.options.clear();
        self.kind = if is_stream { "tcp" } else { "icmp" };
        self.port = self.port.filter(|_| is_stream);
        self.via = self.via.or(Some("direct"));
    }

    fn lose(&self, reason: &str, block: &mut Block) {
        block.lose(Remark { reason: reason.to_owned(), ..self.origin.0.clone() });
    }

    /// An option that its kind refuses, and why.
    fn wrong(&self) -> Option<(&'static str, String)> {
        let row = CHECKS.iter().find(|row| row.name == self.kind)?;
        let mut options = Options::new();
        for (name, value) in &self.options {
            match row.options.iter().find(|option| option.name == *name) {
                Some(known) => options.insert(known.name, plain(value)),
                None => return Some((*name, format!("check {} has no such option", row.name))),
            };
        }
        (row.build)(&options).err()
    }
}

/// Options without which a check accepts more answers.
const CONDITIONS: [&str; 5] = ["body_regex", "body_not", "body_md5", "status", "expect"];

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
            origin: Origin(Remark::new(&Place { file: "k".into(), line: 7 }, "CHECK", "")),
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

    fn settled(mut check: Check) -> (Check, Vec<String>) {
        let mut block = Block::default();
        check.settle(&mut block);
        (check, block.losses().map(ToString::to_string).collect())
    }

    #[test]
    fn a_condition_that_cannot_be_met_is_omitted_and_the_request_stays() {
        let options = vec![("path", Value::text("/a")), ("body_regex", Value::text("("))];
        let (http, losses) = settled(Check { options, port: Some(99), ..check("http") });
        assert_eq!((http.kind, http.port), ("http", Some(99)));
        assert_eq!(http.options, [("path", Value::text("/a"))]);
        assert_eq!(losses.len(), 1);
        assert!(
            losses[0].starts_with("k:7: CHECK: body_regex: ") && losses[0].contains("same request"),
            "{losses:?}"
        );
    }

    #[test]
    fn a_request_that_cannot_be_made_is_replaced_as_a_whole() {
        let path = vec![("path", Value::text("/a b")), ("status", Value::text("404"))];
        let name = vec![("name", Value::text("a..b")), ("expect", Value::text("x"))];
        let command = vec![("command", Value::texts(&["/a\0".to_owned()]))];
        let cases = [
            ("http", path, "tcp", Some(99), Some("tunnel"), "only that a connection is accepted"),
            ("dns", name, "icmp", None, Some("tunnel"), "is only a ping"),
            ("exec", command, "icmp", None, Some("tunnel"), "is only a ping"),
            (
                "tcp",
                vec![("colour", Value::text("red"))],
                "tcp",
                Some(99),
                Some("tunnel"),
                "has no such option",
            ),
        ];
        for (kind, options, expected, port, via, reason) in cases {
            let (stand_in, losses) = settled(Check { options, port: Some(99), via, ..check(kind) });
            assert_eq!((stand_in.kind, stand_in.port, stand_in.via), (expected, port, via), "{kind}");
            assert!(stand_in.options.is_empty(), "{kind}");
            assert!(losses.len() == 1 && losses[0].contains(reason), "{kind}: {losses:?}");
        }
        let command = vec![("command", Value::texts(&[String::new()]))];
        assert_eq!(settled(Check { options: command, ..check("exec") }).0.via, Some("direct"));
    }

    #[test]
    fn a_check_that_the_director_accepts_stays_as_it_is() {
        let options = vec![("path", Value::text("/a")), ("status", Value::text("404"))];
        for check in [Check { options, ..check("http") }, check("tcp"), check("icmp")] {
            assert_eq!(settled(check.clone()), (check, Vec::new()));
        }
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
