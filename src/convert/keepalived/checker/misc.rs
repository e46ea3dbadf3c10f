//! `MISC_CHECK`: a program.

use std::time::Duration;

use super::super::keywords::{self, Keywords, surplus_words};
use super::super::line::command_words;
use super::super::tree::Statement;
use super::super::value::{Wrong, first, number};
use super::{Common, Scope};
use crate::convert::check::Check;
use crate::convert::draft::{Block, Value};

#[derive(Default)]
struct Misc {
    common: Common,
    command: Option<Vec<String>>,
    timeout: Option<Duration>,
    is_dynamic: bool,
    user: Option<(String, Option<String>)>,
}

impl<'a> Keywords<'a> for Misc {
    fn set(&mut self, statement: &'a Statement, block: &mut Block) -> Result<usize, Wrong> {
        match statement.keyword() {
            "misc_path" => {
                first(statement)?;
                let mut words = statement.command().into_iter();
                self.command = Some(command_words(&words.next().unwrap_or_default()));
                let others: Vec<String> = words.collect();
                if !others.is_empty() {
                    surplus_words(statement, &others, block);
                    block.note(statement.remark("arguments of a program belong into its quotes"));
                }
                Ok(keywords::ALL)
            }
            "misc_timeout" => {
                self.timeout = Some(Duration::from_secs(number(statement, 1, 86_400)?.into()));
                Ok(1)
            }
            "misc_dynamic" => {
                self.is_dynamic = true;
                Ok(0)
            }
            "user" => {
                self.user = Some((first(statement)?.to_owned(), statement.argument(2).map(str::to_owned)));
                Ok(2)
            }
            "connect_ip" | "connect_port" | "fwmark" | "connect_timeout" => {
                Err("unknown here; keepalived ignores it".to_owned())
            }
            _ => self.common.set(statement, block),
        }
    }
}

pub(super) fn read(statement: &Statement, scope: &Scope, block: &mut Block) -> Vec<Check> {
    let mut misc = Misc { user: scope.script_user.cloned(), ..Misc::default() };
    keywords::read(&mut misc, statement.statements(), block);
    let Some(command) = misc.command.filter(|command| command.first().is_some_and(|word| !word.is_empty()))
    else {
        block.lose(statement.lost("it has no misc_path, and keepalived ignores it"));
        return Vec::new();
    };
    let Ok(mut check) = misc.common.check("exec", statement, scope, (0, Some(Duration::from_secs(1)))) else {
        return Vec::new();
    };
    misc.common.report_unused("exec", statement, block);
    if scope.members > 1 {
        let reason = format!(
            "keepalived runs it once for the group; here it runs for each of the {} virtual services of the group",
            scope.members
        );
        block.note(statement.remark(reason));
    }
    check.via = None;
    check.timeout = misc.timeout.unwrap_or_else(|| scope.service_timing.interval());
    check.options.push(("command", Value::texts(&command)));
    if let Some((user, group)) = misc.user {
        check.options.push(("user", Value::text(user)));
        check.options.extend(group.map(|group| ("group", Value::text(group))));
    }
    if misc.is_dynamic {
        check.options.push(("weight_from_exit", Value::Flag(true)));
    }
    vec![check]
}
