//! The keywords that a virtual server, a real server and a checker share; the nearest counts.

use std::collections::HashMap;
use std::time::Duration;

use super::tree::Statement;
use super::value::{Wrong, first, flag, number, timer};
use crate::convert::check::{COUNT_MAX, INTERVAL_MIN, TIMEOUT_MAX};
use crate::convert::draft::Block;

/// Where a keyword stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    VirtualServer,
    RealServer,
    Checker,
}

/// What was set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Timing {
    pub(super) delay_loop: Option<Duration>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) retry: Option<u32>,
    pub(super) delay_before_retry: Option<Duration>,
    pub(super) is_alpha: Option<bool>,
    pub(super) virtualhost: Option<String>,
}

impl Timing {
    /// The pause between two checks, 60 s by default.
    pub(super) fn interval(&self) -> Duration {
        self.delay_loop.unwrap_or(Duration::from_secs(60))
    }

    /// Reads a statement; false if it is another one.
    pub(super) fn read(&mut self, statement: &Statement, level: Level, block: &mut Block) -> bool {
        match self.set(statement, level, block) {
            Ok(is_known) => is_known,
            Err(reason) => {
                block.lose(statement.remark(reason));
                true
            }
        }
    }

    fn set(&mut self, statement: &Statement, level: Level, block: &mut Block) -> Result<bool, Wrong> {
        match statement.keyword() {
            "delay_loop" => self.delay_loop = Some(bounded(timer(statement, false)?, statement, block)),
            "connect_timeout" => {
                self.connect_timeout = Some(bounded(timer(statement, false)?, statement, block))
            }
            "retry" => {
                let min = if level == Level::Checker { 0 } else { 1 };
                let retries = number(statement, min, u32::MAX - 1)?;
                self.retry = Some(retries);
                if retries >= COUNT_MAX {
                    block.note(statement.remark(format!("`fall` is at most {COUNT_MAX}")));
                }
            }
            "delay_before_retry" => {
                self.delay_before_retry = Some(bounded(timer(statement, true)?, statement, block))
            }
            "warmup" => {
                timer(statement, true)?;
                block.note(statement.remark("the first checks are always spread over the interval"));
            }
            "alpha" if level == Level::VirtualServer => {
                surplus(statement, 0, block);
                self.is_alpha = Some(true);
                return Ok(true);
            }
            "alpha" => self.is_alpha = Some(flag(statement)?),
            "virtualhost" => self.virtualhost = Some(first(statement)?.to_owned()),
            _ => return Ok(false),
        }
        surplus(statement, 1, block);
        Ok(true)
    }

    /// These values, and those of the level above where there is none.
    pub(super) fn or(&self, above: &Timing) -> Timing {
        Timing {
            delay_loop: self.delay_loop.or(above.delay_loop),
            connect_timeout: self.connect_timeout.or(above.connect_timeout),
            retry: self.retry.or(above.retry),
            delay_before_retry: self.delay_before_retry.or(above.delay_before_retry),
            is_alpha: self.is_alpha.or(above.is_alpha),
            virtualhost: self.virtualhost.clone().or_else(|| above.virtualhost.clone()),
        }
    }
}

/// A time that a check may have; another one is replaced, with a remark.
fn bounded(time: Duration, statement: &Statement, block: &mut Block) -> Duration {
    let bounded = time.clamp(INTERVAL_MIN, TIMEOUT_MAX);
    if bounded != time {
        block.note(statement.remark("times of checks are 10 ms to 1 hour here"));
    }
    bounded
}

/// Reports words behind the last argument.
pub(super) fn surplus(statement: &Statement, taken: usize, block: &mut Block) {
    if let Some(words) = statement.words.get(taken + 1..).filter(|words| !words.is_empty()) {
        let reason = format!("`{}` is one word too many; keepalived ignores it", words.join(" "));
        let reason = if words.len() == 1 {
            reason
        } else {
            reason.replace("is one word", "are words").replace("it", "them")
        };
        block.lose(statement.remark(reason));
    }
}

/// The statements of a block that count: of a keyword that sets one value, the last. `repeated` lists those of which
/// each counts.
pub(super) fn effective<'a>(
    statements: &'a [Statement],
    repeated: &[&str],
    block: &mut Block,
) -> Vec<&'a Statement> {
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (index, statement) in statements.iter().enumerate() {
        last.insert(canonical(statement.keyword()), index);
    }
    let mut counted = Vec::new();
    for (index, statement) in statements.iter().enumerate() {
        let keyword = canonical(statement.keyword());
        let is_last = last.get(keyword) == Some(&index);
        if statement.block.is_some() && (SINGLE.contains(&keyword) || FLAGS.contains(&keyword)) {
            block.lose(statement.lost("it takes no block; keepalived loses what follows"));
        }
        if is_last || repeated.contains(&keyword) || !SINGLE.contains(&keyword) {
            counted.push(statement);
        } else {
            let line = statements[last[keyword]].place.line;
            block.lose(statement.remark(format!("line {line} replaces it")));
        }
    }
    counted
}

/// Keywords that set one value.
const SINGLE: &[&str] = &[
    "lvs_sched",
    "lvs_method",
    "protocol",
    "persistence_timeout",
    "persistence_granularity",
    "delay_loop",
    "connect_timeout",
    "retry",
    "delay_before_retry",
    "warmup",
    "quorum",
    "hysteresis",
    "weight",
    "virtualhost",
    "uthreshold",
    "lthreshold",
    "snmp_name",
    "connect_ip",
    "connect_port",
    "fwmark",
    "path",
    "digest",
    "status_code",
    "http_protocol",
    "regex",
    "misc_path",
    "misc_timeout",
    "user",
    "type",
    "name",
    "helo_name",
    "payload",
    "require_reply",
    "lvs_timeouts",
    "script_user",
];

/// Other keywords without a block.
const FLAGS: &[&str] = &[
    "alpha",
    "omega",
    "ops",
    "hashed",
    "inhibit_on_failure",
    "quorum_up",
    "quorum_down",
    "notify_up",
    "notify_down",
    "sorry_server",
    "sorry_server_inhibit",
    "sorry_server_lvs_method",
    "misc_dynamic",
    "nb_get_retry",
    "enable_sni",
    "sh-port",
    "sh-fallback",
    "mh-port",
    "mh-fallback",
    "flag-1",
    "flag-2",
    "lvs_sync_daemon",
];

/// The present word for one of old files.
pub(super) fn canonical(keyword: &str) -> &str {
    match keyword {
        "lb_algo" => "lvs_sched",
        "lb_kind" => "lvs_method",
        _ => keyword,
    }
}
