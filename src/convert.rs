//! Turns the files of other programs into `director.toml`: keepalived.conf ([`keepalived`]), ldirectord.cf ([`ldirectord`])
//! and the rules that `ipvsadm -S` writes ([`ipvsadm`]). Nothing is dropped silently: what has no counterpart becomes a
//! comment, and is listed in [`Converted::losses`].
//!
//! Pure: text in, text out. Other files and names come from the caller.

pub mod check;
pub mod draft;
pub mod entry;
pub mod glob;
pub mod ipvsadm;
pub mod keepalived;
pub mod ldirectord;
pub mod pattern;
mod settle;
pub mod target;
pub mod uri;
pub mod write;

use crate::control::ipvsadm::names::Names;
use draft::{Draft, Remark};

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// keepalived.conf(5).
    Keepalived,
    /// ldirectord.cf, see ldirectord(8).
    Ldirectord,
    /// Commands of ipvsadm(8), one a line.
    Ipvsadm,
}

/// The names and texts of the files that a pattern matches; the file that names them comes first.
///
/// # Errors
/// Why one of them cannot be read.
pub type Include<'a> = dyn Fn(&str, &str) -> Result<Vec<(String, String)>, String> + 'a;

/// What a conversion depends on.
pub struct Input<'a> {
    /// The name of the file, for remarks.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
    /// Reads the files that `include` names.
    pub include: &'a Include<'a>,
    /// Looks up hosts and ports.
    pub names: &'a dyn Names,
    /// keepalived's configuration id, for lines that begin with `@`.
    pub config_id: &'a str,
}

/// The result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// A valid `director.toml`.
    pub toml: String,
    /// What has no counterpart, in the order of `toml`.
    pub losses: Vec<Remark>,
    /// The number of virtual services in `toml`.
    pub services: usize,
    /// The number of their real servers.
    pub real_servers: usize,
}

/// Recognizes the kind of a file by its words.
pub fn recognize(text: &str) -> Option<Kind> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.find_map(|line| {
        let line = line.trim_start_matches('\u{feff}');
        let first = line.split([' ', '\t', '{', '=']).next().unwrap_or_default();
        let value = line[first.len()..].trim_start();
        match first {
            _ if ipvsadm::is_command(line) => Some(Kind::Ipvsadm),
            _ if value.starts_with('=') && ldirectord::is_key(first) => Some(Kind::Ldirectord),
            _ if keepalived::is_root(first) => Some(Kind::Keepalived),
            _ => None,
        }
    })
}

/// Converts a file.
pub fn convert(kind: Kind, input: &Input) -> Converted {
    let mut draft = match kind {
        Kind::Keepalived => keepalived::draft(input),
        Kind::Ldirectord => ldirectord::draft(input),
        Kind::Ipvsadm => ipvsadm::draft(input),
    };
    settle::draft(&mut draft);
    let heading = heading(kind, input.name);
    let toml = settle::valid(&mut draft, &heading);
    let served = |draft: &Draft| -> (usize, usize) {
        let services: Vec<_> = draft.services().filter(|service| !service.is_disabled).collect();
        let servers = services.iter().flat_map(|service| &service.servers);
        (services.len(), servers.filter(|server| !server.is_disabled).count())
    };
    let (services, real_servers) = served(&draft);
    Converted { toml, losses: draft.losses(), services, real_servers }
}

fn heading(kind: Kind, name: &str) -> Vec<String> {
    let name: String = name.chars().filter(|c| !crate::config::kinds::is_misleading(*c)).collect();
    let of = match kind {
        Kind::Keepalived => "keepalived",
        Kind::Ldirectord => "ldirectord",
        Kind::Ipvsadm => "ipvsadm",
    };
    vec![
        format!("lvs-tund director, converted from {name} of {of}."),
        "\"not converted\" marks what has no counterpart, \"note\" what differs, each with its file and line.".to_owned(),
    ]
}
