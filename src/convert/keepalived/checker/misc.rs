//! `MISC_CHECK`: a program.

use std::time::Duration;

use super::super::line::command_words;
use super::super::timing::{effective, surplus};
use super::super::tree::Statement;
use super::super::value::number;
use super::{Common, Scope};
use crate::convert::check::Check;
use crate::convert::draft::{Block, Value};

pub(super) fn read(statement: &Statement, scope: &Scope, block: &mut Block) -> Vec<Check> {
    let (mut common, mut command, mut timeout, mut is_dynamic) = (Common::new(), None, None, false);
    let mut user = scope.script_user.cloned();
    for inner in effective(statement.statements(), &[], block) {
        match (inner.keyword(), inner.argument(1)) {
            ("misc_path", Some(_)) => {
                let mut words = inner.command().into_iter();
                command = Some(command_words(&words.next().unwrap_or_default()));
                let others: Vec<String> = words.collect();
                if !others.is_empty() {
                    let reason =
                        format!("`{}` is ignored; put the arguments into the quotes", others.join(" "));
                    block.lose(inner.remark(reason));
                }
            }
            ("misc_timeout", _) => match number(inner, 1, 86_400) {
                Ok(seconds) => timeout = Some(Duration::from_secs(seconds.into())),
                Err(reason) => block.lose(inner.remark(reason)),
            },
            ("misc_dynamic", _) => {
                surplus(inner, 0, block);
                is_dynamic = true;
            }
            ("user", Some(name)) => {
                user = Some((name.to_owned(), inner.argument(2).map(str::to_owned)));
                surplus(inner, 2, block);
            }
            ("connect_ip" | "connect_port" | "fwmark" | "connect_timeout", _) => {
                block.lose(inner.remark("unknown here; keepalived ignores it"));
            }
            _ => common.read(inner, block),
        }
    }
    let Some(command) = command.filter(|command| command.first().is_some_and(|word| !word.is_empty())) else {
        block.lose(statement.remark("it has no misc_path, and keepalived ignores it"));
        return Vec::new();
    };
    let Ok(mut check) = common.check("exec", scope, (0, Some(Duration::from_secs(1)))) else {
        return Vec::new();
    };
    check.via = None;
    check.timeout = timeout.unwrap_or(scope.service_interval);
    check.options.push(("command", Value::texts(&command)));
    if let Some((user, group)) = user {
        check.options.push(("user", Value::text(user)));
        check.options.extend(group.map(|group| ("group", Value::text(group))));
    }
    if is_dynamic {
        check.options.push(("weight_from_exit", Value::Flag(true)));
    }
    vec![check]
}
