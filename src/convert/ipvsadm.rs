//! Commands of ipvsadm(8), one a line, as `ipvsadm -S` writes them or as a simple script has them. They are applied in their
//! order; the result is the table at the end.

mod script;
mod shell;

use std::time::Duration;

use super::Input;
use super::draft::{Block, Draft, Item, Remark, Server, Service, Value};
use super::target::{self, DIRECT_ROUTING, Flags, MASQUERADING, OTHER_PORT};
use crate::control::ipvsadm::command::{Command, ServerTerms, ServiceAddress, ServiceTerms};
use crate::control::ipvsadm::legality::TunnelType;
use crate::control::ipvsadm::options::{Forwarding, Transport};
use script::Script;

/// Whether a line is a command of ipvsadm.
pub fn is_command(line: &str) -> bool {
    if line.starts_with('#') {
        return false;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.iter().any(|word| is_program(word)) && !line.contains('=') {
        return true;
    }
    let is_before =
        |word: &&&str| word.starts_with('$') || is_program(word) || ["sudo", "exec"].contains(*word);
    let before = words.iter().take_while(is_before).count();
    let Some(option) = words.get(before) else { return false };
    let letters = option.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
    let is_variable = before > 0 && words[0].starts_with('$');
    letters.is_some_and(|rest| is_variable || rest.starts_with(['A', 'a', 'C', 'D', 'd', 'E', 'e']))
        || ["--add-", "--edit-", "--delete-", "--clear", "--set"]
            .iter()
            .any(|begin| option.starts_with(begin))
}

fn is_program(word: &str) -> bool {
    word == "ipvsadm" || word.ends_with("/ipvsadm") && !word.contains('=')
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
    let mut script = Script::new(input.name, input.names);
    script.run(&shell::pieces(input.text));
    let Script { mut table, remarks, .. } = script;
    let mut draft = Draft { top: remarks, ..Draft::default() };
    target::unknown_interface(&mut draft.top);
    table.keep_what_a_stop_removes().into_iter().for_each(|remark| draft.top.lose(remark));
    table.write(&mut draft);
    draft
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
            Command::Restore => return Err("convert the rules that it reads, too".to_owned()),
            Command::List(_) | Command::Save { .. } | Command::Zero(_) | Command::Help | Command::Version => {
                return Err("it changes nothing that a configuration contains".to_owned());
            }
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
        ServiceAddress::FirewallMark { mark, .. } => (target::marked(&origin, &mark.to_string()), 0),
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
