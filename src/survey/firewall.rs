//! Reads the packet filter's rules with the programs that the host has for it.

use std::process::{Command, Stdio};

use crate::doctor::firewall::rules::{Chain, Table};
use crate::doctor::firewall::{Firewall, iptables, nft};

/// Tables of the old iptables, which nft does not show.
const LEGACY_TABLES: &str = "/proc/net/ip_tables_names";

pub(super) fn rules() -> Firewall {
    match nft_rules().and_then(|mut chains| {
        chains.extend(legacy_rules()?);
        Ok(chains)
    }) {
        Ok(chains) => Firewall::Rules(chains),
        Err(why) => Firewall::Unreadable(why),
    }
}

/// The rules of nftables; those that iptables made of them are read with its own program, which alone can show them.
fn nft_rules() -> Result<Vec<Chain>, String> {
    let text = match output("nft", &["-j", "list", "ruleset"]) {
        Ok(text) => text,
        // Without nft there may be only rules of iptables.
        Err(missing) => return output("iptables-nft-save", &[]).map_or(Err(missing), saved),
    };
    let listing = nft::parse(&text)?;
    if !listing.has_iptables {
        return Ok(listing.chains);
    }
    const TABLES: [&str; 4] = ["filter", "mangle", "raw", "security"];
    let is_iptables = |chain: &Chain| match &chain.table {
        Table::Nft { family, name } => family == "ip" && TABLES.contains(&name.as_str()),
        Table::Iptables { .. } => true,
    };
    let mut chains = saved(output("iptables-nft-save", &[])?)?;
    chains.extend(listing.chains.into_iter().filter(|chain| !is_iptables(chain)));
    Ok(chains)
}

fn saved(text: String) -> Result<Vec<Chain>, String> {
    Ok(iptables::parse(&text, "iptables"))
}

fn legacy_rules() -> Result<Vec<Chain>, String> {
    match std::fs::read_to_string(LEGACY_TABLES) {
        Ok(names) if !names.trim().is_empty() => {
            let text = output("iptables-legacy-save", &[])?;
            Ok(iptables::parse(&text, "iptables-legacy"))
        }
        _ => Ok(Vec::new()),
    }
}

/// What a program prints.
fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{program} is not installed"),
        _ => format!("cannot run {program}: {error}"),
    })?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} failed: {}", errors.lines().next().unwrap_or("without a message")));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{program} printed no UTF-8 text"))
}
