//! The options that each command and each tunnel type allow, as tables, and the messages for lines that violate
//! them.

use std::collections::BTreeSet;

use super::IpvsadmError;
use super::options::{ITEMS, Item, Verb};

/// commands_v_options of ipvsadm.c: `+` required, `o` allowed, `!` allowed but at most one of these, `.`
/// illegal. The columns are those of [`ITEMS`], in groups: shared options, the service, the real server,
/// kinds of lists, other options of lists and services, the sync daemon, tunnels.
#[rustfmt::skip]
const MATRIX: [(Verb, &str); 14] = [
    //                      all svc rip   lists    rest  sync tun
    (Verb::AddService,     "..+ ooo ..... ........ ..ooo .... ......"),
    (Verb::EditService,    "..+ ooo ..... ........ ..ooo .... ......"),
    (Verb::DeleteService,  "..+ ... ..... ........ ..... .... ......"),
    (Verb::Flush,          "... ... ..... ........ ..... .... ......"),
    (Verb::List,           "o!! ... ..... .!!ooooo oo... .... o....."),
    (Verb::AddServer,      "..+ ... +oooo ........ ..... .... .ooooo"),
    (Verb::DeleteServer,   "..+ ... +.... ........ ..... .... ......"),
    (Verb::EditServer,     "..+ ... +oooo ........ ..... .... .ooooo"),
    (Verb::SetTimeouts,    "... ... ..... ........ ..... .... ......"),
    (Verb::StartDaemon,    "... ... ..... o....... o.... oooo ......"),
    (Verb::StopDaemon,     "... ... ..... ........ o.... .... ......"),
    (Verb::Restore,        "... ... ..... ........ ..... .... ......"),
    (Verb::Save,           "o.. ... ..... ........ ..... .... ......"),
    (Verb::Zero,           "..o ... ..... ........ ..... .... ......"),
];

/// Columns: tun-port, tun-nocsum, tun-csum, tun-remcsum; signs as in [`MATRIX`].
#[rustfmt::skip]
const TUNNELS: [(TunnelType, &str); 3] = [
    (TunnelType::Ipip, "...."),
    (TunnelType::Gue,  "+!!!"),
    (TunnelType::Gre,  ".!!."),
];

/// The argument of `--tun-type` (tunnames of ipvsadm.c).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TunnelType {
    /// IP in IP (RFC 2003); the default.
    #[default]
    Ipip,
    /// Generic UDP encapsulation, which requires `--tun-port`.
    Gue,
    /// Generic routing encapsulation (RFC 2784).
    Gre,
}

impl TunnelType {
    /// In the order of `IP_VS_CONN_F_TUNNEL_TYPE_*` in ip_vs.h.
    pub const ALL: [TunnelType; 3] = [TunnelType::Ipip, TunnelType::Gue, TunnelType::Gre];

    /// The word on the command line and in error texts.
    pub const fn name(self) -> &'static str {
        match self {
            TunnelType::Ipip => "ipip",
            TunnelType::Gue => "gue",
            TunnelType::Gre => "gre",
        }
    }
}

/// Checks the options given with a command.
///
/// # Errors
/// The first column that violates the table, as generic_opt_check() in ipvsadm.c reports it, or a list of two
/// kinds at once.
pub fn check(verb: Verb, given: &BTreeSet<Item>) -> Result<(), IpvsadmError> {
    let signs = MATRIX.iter().find(|(row, _)| *row == verb).map_or("", |(_, signs)| *signs);
    check_row(signs, ITEMS.iter().map(|(item, _)| *item), given, verb.name(), "command")?;
    let has = |items: &[Item]| items.iter().any(|item| given.contains(item));
    let is_apart = verb == Verb::List
        && (has(&[Item::Connection, Item::Timeout, Item::Daemon])
            && has(&[Item::Stats, Item::Rate, Item::Thresholds])
            || has(&[Item::Timeout, Item::Daemon]) && has(&[Item::PersistentConn]));
    if is_apart {
        return Err(IpvsadmError::usage("options conflicts in the list command"));
    }
    Ok(())
}

/// Checks the options of a tunnel.
///
/// # Errors
/// As [`check`].
pub fn check_tunnel(tunnel: TunnelType, given: &BTreeSet<Item>) -> Result<(), IpvsadmError> {
    let signs = TUNNELS.iter().find(|(row, _)| *row == tunnel).map_or("", |(_, signs)| *signs);
    let columns = [Item::TunPort, Item::TunNocsum, Item::TunCsum, Item::TunRemcsum];
    check_row(signs, columns.into_iter(), given, tunnel.name(), "tunnel type")
}

fn check_row(
    signs: &str,
    columns: impl Iterator<Item = Item>,
    given: &BTreeSet<Item>,
    name: &str,
    kind: &str,
) -> Result<(), IpvsadmError> {
    let mut before: Option<Item> = None;
    for (item, sign) in columns.zip(signs.chars().filter(|sign| *sign != ' ')) {
        let text = match (sign, given.contains(&item)) {
            ('+', false) => {
                format!("You need to supply the '{}' option for the '{name}' {kind}", item.name())
            }
            ('.', true) => format!("Illegal '{}' option with the '{name}' {kind}", item.name()),
            ('!', true) => match before.replace(item) {
                Some(other) => format!(
                    "The option '{}' conflicts with the '{}' option in the '{name}' {kind}",
                    item.name(),
                    other.name()
                ),
                None => continue,
            },
            _ => continue,
        };
        return Err(IpvsadmError::usage(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_every_column() {
        for (verb, signs) in MATRIX {
            assert_eq!(signs.replace(' ', "").len(), ITEMS.len(), "{}", verb.name());
            assert!(signs.chars().all(|sign| "+o!. ".contains(sign)), "{}", verb.name());
        }
        assert!(TUNNELS.iter().all(|(_, signs)| signs.len() == 4));
        assert!(Verb::ALL.iter().all(|verb| MATRIX.iter().any(|(row, _)| row == verb)));
        assert!(TunnelType::ALL.iter().all(|tunnel| TUNNELS.iter().any(|(row, _)| row == tunnel)));
    }
}
