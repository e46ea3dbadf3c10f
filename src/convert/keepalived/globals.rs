//! What concerns all virtual servers: `global_defs`, groups, and the interfaces of VRRP.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::group::{self, Target};
use super::keywords::{self, Keywords};
use super::tree::Statement;
use super::value::{Wrong, first, parsed};
use crate::config::kinds::{InterfaceName, Word};
use crate::config::types::TUN_DIRECTOR;
use crate::convert::draft::{Block, Draft, Receives, Remark, Value};
use crate::convert::target::TIMEOUT_MAX;

/// A `virtual_server_group`.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) statement: Statement,
    pub(super) members: Vec<Target>,
}

/// What the whole file sets.
#[derive(Debug, Default)]
pub(super) struct Globals {
    /// User and group of commands.
    pub(super) script_user: Option<(String, Option<String>)>,
    pub(super) groups: BTreeMap<String, Group>,
    /// Interfaces of VRRP, with the addresses that it adds to them.
    interfaces: Vec<(String, Vec<IpAddr>)>,
    sync_interface: Option<String>,
}

impl Globals {
    /// Reads a statement at the top.
    pub(super) fn collect(&mut self, statement: &Statement, draft: &mut Draft) {
        match statement.keyword() {
            "global_defs" => {
                keywords::surplus(statement, 0, &mut draft.top);
                keywords::read(self, statement.statements(), &mut draft.top);
            }
            "virtual_server_group" => match statement.argument(1) {
                Some(name) => {
                    keywords::surplus(statement, 1, &mut draft.top);
                    let members = group::read(statement, &mut draft.top);
                    self.groups.insert(name.to_owned(), Group { statement: statement.clone(), members });
                }
                None => draft.top.lose(statement.remark("a name is missing")),
            },
            "vrrp_instance" => {
                let inside = statement.statements();
                let word = |keyword| inside.iter().find(|inner| inner.keyword() == keyword);
                let interface = word("interface").and_then(|inner| inner.argument(1));
                let lists = ["virtual_ipaddress", "virtual_ipaddress_excluded"].into_iter().filter_map(word);
                let mut by_device: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
                for line in lists.flat_map(Statement::statements) {
                    let address = line.keyword().split('/').next().and_then(parsed);
                    let device = line.words.iter().skip_while(|word| *word != "dev").nth(1);
                    let device = device.map(String::as_str).or(interface);
                    if let (Some(address), Some(device)) = (address, device) {
                        by_device.entry(device.to_owned()).or_default().push(address);
                    }
                }
                let first =
                    interface.map(|name| (name.to_owned(), by_device.remove(name).unwrap_or_default()));
                self.interfaces.extend(first.into_iter().chain(by_device));
            }
            _ => {}
        }
    }

    /// The interfaces that have VIPs of the draft, otherwise the first.
    pub(super) fn interfaces(&self, draft: &Draft) -> Vec<String> {
        let vips: Vec<IpAddr> = draft
            .services()
            .filter_map(|service| match &service.receives {
                Receives::Packets(matcher) if !service.is_disabled => Some(matcher.vip),
                _ => None,
            })
            .collect();
        let has_vip = |addresses: &[IpAddr]| addresses.iter().any(|address| vips.contains(address));
        let with_vip =
            self.interfaces.iter().filter(|(_, addresses)| has_vip(addresses)).map(|(name, _)| name);
        let all = self.interfaces.iter().map(|(name, _)| name).chain(&self.sync_interface);
        let is_usable =
            |name: &&String| InterfaceName.parse("interface", name).is_ok() && name.as_str() != TUN_DIRECTOR;
        let mut found: Vec<String> = with_vip.filter(is_usable).cloned().collect();
        found.sort();
        found.dedup();
        if found.is_empty() {
            found.extend(all.filter(is_usable).take(1).cloned());
        }
        found
    }
}

impl<'a> Keywords<'a> for Globals {
    fn set(&mut self, statement: &'a Statement, block: &mut Block) -> Result<usize, Wrong> {
        match statement.keyword() {
            "lvs_timeouts" => {
                timeouts(statement, block);
                Ok(keywords::ALL)
            }
            "lvs_sync_daemon" => {
                self.sync_interface = statement.argument(1).map(str::to_owned);
                Err(
                    "connections are not synchronized; use scheduler mh with the same hash_key on all directors"
                        .to_owned(),
                )
            }
            "script_user" => {
                self.script_user =
                    Some((first(statement)?.to_owned(), statement.argument(2).map(str::to_owned)));
                block.note(statement.remark("each command and check has the user that keepalived gives it"));
                Ok(2)
            }
            other => Err(global_reason(other).to_owned()),
        }
    }
}

/// Pairs of a name and seconds; of two for the same, the last counts.
fn timeouts(statement: &Statement, block: &mut Block) {
    for pair in statement.words[1..].chunks(2) {
        let key = match pair[0].as_str() {
            "tcp" => "timeouts.tcp",
            "tcpfin" => "timeouts.tcp_fin",
            "udp" => "timeouts.udp",
            other => {
                block.lose(statement.remark(format!("{other} is not a timeout")));
                continue;
            }
        };
        let seconds = pair.get(1).and_then(|word| parsed::<u32>(word));
        match seconds.filter(|seconds| (1..=TIMEOUT_MAX).contains(seconds)) {
            Some(seconds) => {
                let time = Duration::from_secs(seconds.into());
                if let Some(earlier) = block.unset(key) {
                    let reason = format!("line {} sets {} again", statement.place.line, pair[0]);
                    block.lose(Remark { reason, ..earlier });
                }
                block.set_from(key, Value::Duration(time), statement.remark(""));
            }
            None => {
                block.lose(statement.remark(format!("{}: expected seconds from 1 to {TIMEOUT_MAX}", pair[0])))
            }
        }
    }
}

fn global_reason(keyword: &str) -> &'static str {
    match keyword {
        "notification_email"
        | "notification_email_from"
        | "smtp_server"
        | "smtp_connect_timeout"
        | "smtp_helo_name"
        | "smtp_alert"
        | "smtp_alert_checker"
        | "no_checker_emails"
        | "email_faults"
        | "no_email_faults" => "mail is not sent; use on_change or an alert of your monitoring",
        "router_id" | "lvs_id" => "it names the host in mails of keepalived",
        "lvs_flush" | "lvs_flush_on_stop" => "the director's table ends with the director",
        "enable_script_security" => {
            "commands run as written; give them a user, and files that only root can change"
        }
        "checker_log_all_failures" => "the log has each change of state, and metrics count failures",
        "rs_init_notifies" => "notify_up runs at the start only for a real server that starts down (alpha)",
        "notify_fifo" | "notify_fifo_script" | "lvs_notify_fifo" | "lvs_notify_fifo_script" => {
            "there is no FIFO; use on_change, or the events of the API"
        }
        "nftables_ipvs" | "net_namespace_ipvs" => "there is no IPVS in this host's kernel to set up",
        "enable_snmp_checker" | "snmp_socket" | "enable_traps" => "there is no SNMP; use the metrics",
        word if word.starts_with("vrrp_") || word.starts_with("garp_") || word.starts_with("nftables") => {
            "VRRP stays with keepalived"
        }
        word if word.starts_with("checker_") || word.starts_with("bfd_") || word.starts_with("process") => {
            "a setting of keepalived's own processes"
        }
        _ => "a setting of keepalived's own, without a counterpart",
    }
}
