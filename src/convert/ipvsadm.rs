//! Commands of ipvsadm(8), one a line, as `ipvsadm -S` writes them or as a simple script has them. They are applied in their
//! order; the result is the table at the end.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::Input;
use super::draft::{Block, Draft, Item, Place, Remark, Server, Service, Value};
use super::target::{self, DIRECT_ROUTING, Flags, MASQUERADING, OTHER_PORT};
use crate::control::ipvsadm::command::{Command, ServerTerms, ServiceAddress, ServiceTerms};
use crate::control::ipvsadm::grammar;
use crate::control::ipvsadm::legality::TunnelType;
use crate::control::ipvsadm::options::{Forwarding, Transport};

/// Whether a line is a command of ipvsadm.
pub fn is_command(line: &str) -> bool {
    let mut words = line.split_whitespace().filter(|word| !is_program(word)).peekable();
    let has_name = line.split_whitespace().any(is_program);
    let is_option = words.peek().is_some_and(|word| {
        let letters = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        letters.is_some_and(|rest| rest.starts_with(['A', 'a', 'C', 'D', 'd', 'E', 'e']))
            || ["--add-", "--edit-", "--delete-", "--clear", "--set"]
                .iter()
                .any(|begin| word.starts_with(begin))
    });
    is_option || has_name && !line.starts_with('#') && !line.contains('=')
}

fn is_program(word: &str) -> bool {
    word == "ipvsadm" || word.ends_with("/ipvsadm")
}

/// A virtual service of the table.
struct Entry {
    terms: ServiceTerms,
    origin: Remark,
    servers: Vec<(ServerTerms, Remark)>,
}

#[derive(Default)]
struct Table {
    services: Vec<Entry>,
    /// Removed since the last virtual service was added.
    removed: Vec<Entry>,
    /// The lines that removed them.
    removals: Vec<Remark>,
    timeouts: [u32; 3],
    timeouts_origin: Option<Remark>,
}

/// Converts a list of commands.
pub fn draft(input: &Input) -> Draft {
    let (mut draft, mut table, mut variables) = (Draft::default(), Table::default(), BTreeMap::new());
    let file: Rc<str> = input.name.into();
    for (index, line) in joined(input.text) {
        let line = line.trim();
        let words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let words: Vec<&str> = words.take_while(|word| !word.starts_with('#')).collect();
        if words.is_empty() {
            continue;
        }
        let remark = Remark::new(&Place { file: Rc::clone(&file), line: index + 1 }, line, "");
        if let [word] = words.as_slice()
            && let Some((name, value)) = assignment(word)
        {
            let reason = "its value stands where the variable was";
            draft.top.note(Remark { reason: reason.to_owned(), ..remark });
            variables.insert(name.to_owned(), value.to_owned());
            continue;
        }
        let words: Vec<String> = words.iter().map(|word| replaced(word, &variables)).collect();
        let words: Vec<String> = words.into_iter().filter(|word| !is_program(word)).collect();
        let outcome = if line.contains('$') && words.iter().any(|word| word.contains('$')) {
            Err("it has a variable of a shell script without a value here".to_owned())
        } else {
            let command =
                grammar::parse(&words, input.names).map_err(|error| error.text.trim().replace('\n', "; "));
            command.and_then(|command| table.apply(command, &remark))
        };
        if let Err(reason) = outcome {
            draft.top.lose(Remark { reason, ..remark });
        }
    }
    target::unknown_interface(&mut draft.top);
    table.keep_what_a_stop_removes().into_iter().for_each(|remark| draft.top.lose(remark));
    table.write(&mut draft);
    draft
}

/// Lines with their index; a backslash at the end joins two of them, as in a script.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (index, line) in text.lines().enumerate() {
        let (part, goes_on) = line.trim_end().strip_suffix('\\').map_or((line, false), |part| (part, true));
        match lines.last_mut() {
            Some((_, open)) if is_open => {
                open.push(' ');
                open.push_str(part);
            }
            _ => lines.push((index, part.to_owned())),
        }
        is_open = goes_on;
    }
    lines
}

/// `NAME=VALUE`, as a shell script has it.
fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = name.chars().all(is_part) && name.chars().next().is_some_and(|c| !c.is_ascii_digit());
    is_name.then(|| (name, value.trim_matches(['"', '\''])))
}

/// The word with the values of variables.
fn replaced(word: &str, variables: &BTreeMap<String, String>) -> String {
    /// A word is an address, or a list of flags.
    const WORD_MAX: usize = 4_096;
    let (mut replaced, mut rest) = (String::new(), word);
    while let Some((before, behind)) = rest.split_once('$') {
        replaced.push_str(before);
        let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        let (name, after) = match behind.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
            Some(found) => found,
            None => behind.split_at(behind.find(is_end).unwrap_or(behind.len())),
        };
        match variables.get(name) {
            Some(value) if replaced.len() + value.len() <= WORD_MAX => {
                replaced.push_str(value);
                rest = after;
            }
            _ => {
                replaced.push('$');
                rest = behind;
            }
        }
    }
    replaced.push_str(rest);
    replaced.trim_matches(['"', '\'']).to_owned()
}

impl Table {
    fn apply(&mut self, command: Command, origin: &Remark) -> Result<(), String> {
        const NO_SERVICE: &str = "there is no such virtual service before this line";
        const NO_SERVER: &str = "there is no such real server before this line";
        let at = |services: &[Entry], address: &ServiceAddress| {
            services.iter().position(|entry| entry.terms.address == *address)
        };
        match command {
            Command::AddService(terms) => match at(&self.services, &terms.address) {
                Some(_) => return Err("the virtual service exists already".to_owned()),
                None => {
                    self.services.push(Entry { terms, origin: origin.clone(), servers: Vec::new() });
                    self.removed.clear();
                    self.removals.clear();
                }
            },
            Command::EditService(terms) => {
                let index = at(&self.services, &terms.address).ok_or(NO_SERVICE)?;
                self.services[index].terms = terms;
            }
            Command::DeleteService(address) => {
                let entry = self.services.remove(at(&self.services, &address).ok_or(NO_SERVICE)?);
                self.removed.push(entry);
                self.removals.push(origin.clone());
            }
            Command::Flush if !self.services.is_empty() => {
                self.removed.append(&mut self.services);
                self.removals.push(origin.clone());
            }
            Command::Flush => {}
            Command::AddServer(address, terms) => {
                let index = at(&self.services, &address).ok_or(NO_SERVICE)?;
                let servers = &mut self.services[index].servers;
                if servers.iter().any(|(known, _)| known.place == terms.place) {
                    return Err("the real server exists already".to_owned());
                }
                servers.push((terms, origin.clone()));
            }
            Command::EditServer(address, terms) => {
                let index = at(&self.services, &address).ok_or(NO_SERVICE)?;
                let servers = &mut self.services[index].servers;
                let known = servers.iter_mut().find(|(known, _)| known.place == terms.place);
                *known.ok_or(NO_SERVER)? = (terms, origin.clone());
            }
            Command::DeleteServer(address, place) => {
                let index = at(&self.services, &address).ok_or(NO_SERVICE)?;
                let servers = &mut self.services[index].servers;
                let index = servers.iter().position(|(known, _)| known.place == place);
                servers.remove(index.ok_or(NO_SERVER)?);
            }
            Command::SetTimeouts(timeouts) => {
                for (kept, given) in self.timeouts.iter_mut().zip(timeouts) {
                    *kept = if given == 0 { *kept } else { given };
                }
                self.timeouts_origin = Some(origin.clone());
            }
            Command::StartDaemon | Command::StopDaemon => {
                let reason = "connections are not synchronized; use scheduler mh with the same hash_key on all directors";
                return Err(reason.to_owned());
            }
            Command::List(_)
            | Command::Save { .. }
            | Command::Restore
            | Command::Zero(_)
            | Command::Help
            | Command::Version => return Err("it changes nothing that a configuration contains".to_owned()),
        }
        Ok(())
    }

    /// The last lines of a script that can also stop empty the table. Keeps what was there before them, and returns these
    /// lines.
    fn keep_what_a_stop_removes(&mut self) -> Vec<Remark> {
        if !self.services.is_empty() {
            return Vec::new();
        }
        self.services = std::mem::take(&mut self.removed);
        let reason = "it would leave nothing to convert, as where a script stops";
        let removals = std::mem::take(&mut self.removals);
        removals.into_iter().map(|remark| Remark { reason: reason.to_owned(), ..remark }).collect()
    }

    fn write(self, draft: &mut Draft) {
        let keys = ["timeouts.tcp", "timeouts.tcp_fin", "timeouts.udp"];
        for (key, seconds) in keys.into_iter().zip(self.timeouts) {
            if let Some(origin) = self.timeouts_origin.clone().filter(|_| seconds > 0) {
                draft.top.set_from(key, Value::Duration(Duration::from_secs(seconds.into())), origin);
            }
        }
        for entry in self.services {
            draft.items.push(Item::Service(Box::new(service(entry))));
        }
    }
}

fn service(entry: Entry) -> Service {
    let Entry { terms, origin, servers } = entry;
    let (mut service, port) = match terms.address {
        ServiceAddress::AddressPort(transport, place) => {
            let protocol = match transport {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
                Transport::Sctp => "sctp",
            };
            (target::service(&origin, protocol, place.address, place.port), place.port)
        }
        ServiceAddress::FirewallMark { .. } => (target::marked(&origin), 0),
    };
    service_keys(&terms, &origin, &mut service.block);
    let mut said: Vec<Forwarding> = Vec::new();
    for (terms, origin) in servers {
        let mut server = Server::new(origin.clone(), terms.place.address);
        let block = &mut server.block;
        if terms.weight != 1 {
            block.set("weight", Value::Number(terms.weight.into()));
        }
        let thresholds =
            [("upper_threshold", terms.upper_threshold), ("lower_threshold", terms.lower_threshold)];
        for (key, value) in thresholds.into_iter().filter(|(_, value)| *value > 0) {
            if key == "lower_threshold" && value > terms.upper_threshold {
                block.lose(Remark { reason: "-y must not be above -x".to_owned(), ..origin.clone() });
            } else {
                block.set_from(key, Value::Number(value.into()), origin.clone());
            }
        }
        let forwarding = terms.forwarding.unwrap_or(Forwarding::DirectRouting);
        let is_first = !said.contains(&forwarding);
        said.push(forwarding);
        match forwarding {
            Forwarding::Tunnel => {}
            Forwarding::DirectRouting if is_first => {
                block.lose(Remark { reason: DIRECT_ROUTING.to_owned(), ..origin.clone() });
            }
            Forwarding::Masquerading if is_first => {
                block.lose(Remark { reason: MASQUERADING.to_owned(), ..origin.clone() });
            }
            Forwarding::DirectRouting | Forwarding::Masquerading => {}
        }
        if let Some(ignored) = terms.ignored_port.filter(|_| forwarding != Forwarding::Masquerading) {
            let reason = format!(
                "packets keep their port, so ipvsadm replaces port {ignored} by that of the virtual service"
            );
            block.note(Remark { reason, ..origin.clone() });
        }
        if terms.tunnel != TunnelType::Ipip {
            server.disable(format!("encapsulation {} is not served; only ipip is", terms.tunnel.name()));
        } else if forwarding == Forwarding::Masquerading && ![0, port].contains(&terms.place.port) {
            server.disable(OTHER_PORT);
        }
        service.servers.push(server);
    }
    service
}

fn service_keys(terms: &ServiceTerms, origin: &Remark, block: &mut Block) {
    let lose = |block: &mut Block, reason: String| block.lose(Remark { reason, ..origin.clone() });
    if target::is_scheduler(&terms.scheduler) {
        block.set("scheduler", Value::text(&terms.scheduler));
    } else {
        lose(block, format!("there is no scheduler {}; the default is wlc", terms.scheduler));
    }
    let mut flags = Flags::default();
    for (bit, flag) in [(1, "flag-1"), (2, "flag-2"), (4, "flag-3")] {
        if terms.scheduler_flags & bit != 0
            && let Err(reason) = flags.set(&terms.scheduler, flag)
        {
            lose(block, format!("-b {flag}: {reason}"));
        }
    }
    flags.write(&terms.scheduler, block);
    if let Some(seconds) = terms.persistence {
        let time = Duration::from_secs(seconds.into());
        block.set_from("persistence.timeout", Value::Duration(time), origin.clone());
    }
    match (terms.mask, terms.persistence) {
        (None, _) => {}
        (Some(_), None) => lose(block, "-M has no effect without -p".to_owned()),
        (Some(mask), Some(_)) => match mask.prefix() {
            Some(prefix) => {
                block.set_from("persistence.prefix", Value::Number(prefix.into()), origin.clone())
            }
            None => lose(block, "-M: the mask has holes, and is not a prefix".to_owned()),
        },
    }
    if terms.has_ops {
        block.set_from("one_packet", Value::Flag(true), origin.clone());
    }
    if let Some(engine) = &terms.persistence_engine {
        lose(block, format!("--pe {engine}: there are no persistence engines"));
    }
}
