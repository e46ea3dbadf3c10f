//! The key `on_change`: programs that are run when health changes something.

use std::sync::Arc;

use super::matchers::list;
use crate::config::ConfigError;
use crate::config::key::{SimpleKind, keys, no_other_place};
use crate::config::kinds::{Flag, LABEL, List, OneOrList, Optional, RipAddress, Span, USER, Words};
use crate::config::toml::{Block, Lines, TomlValue, quoted};
use crate::config::types::ServiceDefaults;
use crate::health::check::Command;
use crate::health::hook::{Hook, When};

/// More than anyone needs.
const HOOKS_MAX: usize = 4096;

const WHEN: OneOrList<Words<When>> = OneOrList(List {
    of: Words::new(&[
        ("real_server_down", When::RealServerDown),
        ("real_server_up", When::RealServerUp),
        ("quorum_lost", When::QuorumLost),
        ("quorum_gained", When::QuorumGained),
    ]),
    is_unique: true,
});
const TIMEOUT: Span = Span::new(100, 3_600_000);

keys! {
    HOOK_KEYS of Hook { when, virtual_service, real_server, command, timeout, at_stop };

    /// The changes that it is run for; default: all.
    file when "when" [] in when [], WHEN, |_, _| Vec::new(), Live;
    /// The name of the virtual service whose changes it is run for; default: all.
    file virtual_service "virtual_service" [] in virtual_service [], Optional(LABEL), |_, _| None, Live;
    /// The RIP of the real server whose changes it is run for; default: all.
    file real_server "real_server" [] in real_server [], Optional(RipAddress), |_, _| None, Live;
    /// The program and its arguments; no shell.
    file command "command" [] in command [.arguments], Program, |_, _| Vec::new(), Live;
    /// The user that it is run as.
    file user "user" [] in command [.user], Optional(USER), |_, _| None, Live;
    /// Afterwards it is ended.
    file timeout "timeout" [] in timeout [], TIMEOUT, |_, _| Hook::TIMEOUT, Live;
    /// Whether it is run at the end of the director, too, as if everything that is up went down.
    file at_stop "at_stop" [] in at_stop [], Flag, |_, _| false, Live;
}

/// A program by its path, with its arguments.
struct Program;

impl SimpleKind for Program {
    type Value = Vec<String>;

    fn read(&self, key: &str, block: &Block, value: &TomlValue) -> Result<Vec<String>, ConfigError> {
        let words: Vec<String> = block
            .list(value)?
            .iter()
            .map(|item| block.text(item).map(str::to_owned))
            .collect::<Result<_, _>>()?;
        let is_path = words.first().is_some_and(|program| program.starts_with('/'));
        if is_path && words.iter().all(|word| !word.contains('\0')) {
            return Ok(words);
        }
        let message = format!(
            "{key} = {}: expected the path of a program from \"/\" on, and its arguments, such as [\"/usr/local/bin/notify\", \
             \"web\"]; there is no shell",
            block.shown(value)
        );
        Err(block.error(value.span(), message))
    }

    fn text(&self, value: &Vec<String>) -> Option<String> {
        (!value.is_empty()).then(|| list(value.iter().map(|word| quoted(word))))
    }
}

/// A list of tables.
pub struct Hooks;

fn blank() -> Hook {
    let command = Command { arguments: Vec::new(), user: None, group: None };
    Hook {
        when: Vec::new(),
        virtual_service: None,
        real_server: None,
        command,
        timeout: Hook::TIMEOUT,
        at_stop: false,
    }
}

fn read_hook(key: &str, block: &Block, item: &TomlValue) -> Result<Hook, ConfigError> {
    let Some(table) = block.table(item, key) else {
        let message = format!(
            "{key} = {}: expected a list of tables, such as [{{ when = \"quorum_lost\", command = [\"/usr/local/bin/notify\"] }}]",
            block.shown(item)
        );
        return Err(block.error(item.span(), message));
    };
    let mut hook = blank();
    let errors = crate::config::key::read(
        HOOK_KEYS,
        &[],
        no_other_place,
        &mut hook,
        &ServiceDefaults::default(),
        &table,
    );
    match errors.into_iter().next() {
        Some(error) => Err(error),
        None if hook.command.arguments.is_empty() => {
            Err(crate::config::kinds::missing(&table, &table.key("command"), "[\"/usr/local/bin/notify\"]"))
        }
        None if hook.at_stop && !hook.when.is_empty() && hook.when.iter().all(|when| when.is_good()) => {
            let message = format!(
                "{} = true: at the end of the director, only real_server_down and quorum_lost are reported; add one to when",
                table.key("at_stop")
            );
            Err(block.error(item.span(), message))
        }
        None => Ok(hook),
    }
}

impl SimpleKind for Hooks {
    type Value = Arc<[Hook]>;

    fn read(&self, key: &str, block: &Block, value: &TomlValue) -> Result<Arc<[Hook]>, ConfigError> {
        let items = match block.list(value) {
            Ok(items) => items,
            Err(_) => return read_hook(key, block, value).map(|hook| [hook].into()),
        };
        if items.len() > HOOKS_MAX {
            return Err(block.error(value.span(), format!("{key}: expected at most {HOOKS_MAX} programs")));
        }
        items.iter().map(|item| read_hook(key, block, item)).collect()
    }

    fn text(&self, value: &Arc<[Hook]>) -> Option<String> {
        Some(list(value.iter().map(text_of)))
    }
}

fn text_of(hook: &Hook) -> String {
    let (default, mut lines) = (blank(), Lines::new());
    HOOK_KEYS.iter().for_each(|key| key.write_below("", hook, Some(&default), &mut lines));
    let keys: Vec<String> = lines.into_iter().map(|(key, text)| format!("{key} = {text}")).collect();
    format!("{{ {} }}", keys.join(", "))
}
