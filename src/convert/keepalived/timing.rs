//! The settings of checks that a virtual server, a real server and a checker share; the nearest counts.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::tree::Statement;
use super::value::{Wrong, first, flag, number, timer};
use crate::convert::check::{COUNT_MAX, INTERVAL_MIN, TIMEOUT_MAX};
use crate::convert::draft::{Block, Remark};

/// Where a keyword stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    VirtualServer,
    RealServer,
    Checker,
}

/// A value, and the line that sets it.
#[derive(Clone, Debug)]
pub(super) struct Setting<T> {
    value: T,
    origin: Remark,
    /// In all copies, as soon as one of them is used.
    is_used: Rc<Cell<bool>>,
}

impl<T: Clone> Setting<T> {
    fn new(value: T, statement: &Statement) -> Option<Setting<T>> {
        let origin = statement.remark("no check uses it");
        Some(Setting { value, origin, is_used: Rc::default() })
    }

    fn used(&self) -> T {
        self.is_used.set(true);
        self.value.clone()
    }

    fn report_unused(&self, block: &mut Block) {
        if !self.is_used.get() {
            block.note(self.origin.clone());
        }
    }
}

/// What was set.
#[derive(Clone, Debug, Default)]
pub(super) struct Timing {
    delay_loop: Option<Setting<Duration>>,
    connect_timeout: Option<Setting<Duration>>,
    retry: Option<Setting<u32>>,
    delay_before_retry: Option<Setting<Duration>>,
    is_alpha: Option<Setting<bool>>,
    virtualhost: Option<Setting<String>>,
}

impl Timing {
    /// The pause between two checks, 60 s by default.
    pub(super) fn interval(&self) -> Duration {
        self.delay_loop.as_ref().map_or(Duration::from_secs(60), Setting::used)
    }

    pub(super) fn connect_timeout(&self) -> Option<Duration> {
        self.connect_timeout.as_ref().map(Setting::used)
    }

    pub(super) fn retry(&self) -> Option<u32> {
        self.retry.as_ref().map(Setting::used)
    }

    pub(super) fn delay_before_retry(&self) -> Option<Duration> {
        self.delay_before_retry.as_ref().map(Setting::used)
    }

    pub(super) fn is_alpha(&self) -> bool {
        self.is_alpha.as_ref().is_some_and(Setting::used)
    }

    pub(super) fn virtualhost(&self) -> Option<String> {
        self.virtualhost.as_ref().map(Setting::used)
    }

    /// Reads a statement; the number of its arguments, or `None` if it is another one.
    pub(super) fn set(
        &mut self,
        statement: &Statement,
        level: Level,
        block: &mut Block,
    ) -> Result<Option<usize>, Wrong> {
        match statement.keyword() {
            "delay_loop" => {
                self.delay_loop = Setting::new(bounded(timer(statement, false)?, statement, block), statement)
            }
            "connect_timeout" => {
                self.connect_timeout =
                    Setting::new(bounded(timer(statement, false)?, statement, block), statement)
            }
            "retry" | "nb_get_retry" => {
                let min = if level == Level::Checker { 0 } else { 1 };
                let retries = number(statement, min, u32::MAX - 1)?;
                self.retry = Setting::new(retries, statement);
                if retries >= COUNT_MAX {
                    block.note(statement.remark(format!("`fall` is at most {COUNT_MAX}")));
                }
            }
            "delay_before_retry" => {
                let pause = bounded(timer(statement, true)?, statement, block);
                self.delay_before_retry = Setting::new(pause, statement);
            }
            "warmup" => {
                timer(statement, true)?;
                block.note(statement.remark("the first checks are always spread over the interval"));
            }
            "alpha" if level == Level::VirtualServer => {
                self.is_alpha = Setting::new(true, statement);
                return Ok(Some(0));
            }
            "alpha" => self.is_alpha = Setting::new(flag(statement)?, statement),
            "virtualhost" => self.virtualhost = Setting::new(first(statement)?.to_owned(), statement),
            _ => return Ok(None),
        }
        Ok(Some(1))
    }

    /// These values, and those of the level above where there is none.
    pub(super) fn or(&self, above: &Timing) -> Timing {
        fn nearest<T: Clone>(own: &Option<T>, above: &Option<T>) -> Option<T> {
            own.clone().or_else(|| above.clone())
        }
        Timing {
            delay_loop: nearest(&self.delay_loop, &above.delay_loop),
            connect_timeout: nearest(&self.connect_timeout, &above.connect_timeout),
            retry: nearest(&self.retry, &above.retry),
            delay_before_retry: nearest(&self.delay_before_retry, &above.delay_before_retry),
            is_alpha: nearest(&self.is_alpha, &above.is_alpha),
            virtualhost: nearest(&self.virtualhost, &above.virtualhost),
        }
    }

    /// Remarks about what no check has used.
    pub(super) fn report_unused(&self, block: &mut Block) {
        self.delay_loop.iter().for_each(|setting| setting.report_unused(block));
        self.connect_timeout.iter().for_each(|setting| setting.report_unused(block));
        self.retry.iter().for_each(|setting| setting.report_unused(block));
        self.delay_before_retry.iter().for_each(|setting| setting.report_unused(block));
        self.is_alpha.iter().for_each(|setting| setting.report_unused(block));
        self.virtualhost.iter().for_each(|setting| setting.report_unused(block));
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
