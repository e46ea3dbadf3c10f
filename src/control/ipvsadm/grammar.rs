//! Turns a command line into a [`Command`]: reads each value on its own, then checks the combination.
//!
//! The checks run in the order of parse_options() in ipvsadm.c: a line with two mistakes gets the same message.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::IpvsadmError;
use super::command::{Command, ListKind, ListTerms, ServerTerms, ServiceAddress, ServiceTerms};
use super::legality::{self, TunnelType};
use super::names::Names;
use super::options::{Forwarding, Item, Meaning, Transport, Verb};
use super::values::{self, AddressPort, Mask};
use super::words::{FoundOption, WordReader};
use crate::config::keys::real_server::WEIGHT_MAX;

/// `-p` without a number, in seconds: IPVS_SVC_PERSISTENT_TIMEOUT of ip_vs.h, as parse_timeout() of ipvsadm.c has it.
const PERSISTENCE_DEFAULT: u32 = 360;
const SCHEDULER_DEFAULT: &str = "wlc";

/// Reads a command line without the program's name.
///
/// # Errors
/// The text and the exit code of ipvsadm 1.31.
pub fn parse(words: &[String], names: &dyn Names) -> Result<Command, IpvsadmError> {
    let mut reader = WordReader::new(words);
    let verb = match reader.next_option() {
        None if words.is_empty() => return Ok(Command::List(ListTerms::default())),
        None | Some(Err(_)) => return Err(IpvsadmError::try_help()),
        Some(Ok(found)) => match found.row.means {
            Meaning::Help => return Ok(Command::Help),
            Meaning::Version => return Ok(Command::Version),
            Meaning::Verb(verb) => {
                check_daemon_state(verb, found.value)?;
                verb
            }
            _ => return Err(IpvsadmError::try_help()),
        },
    };
    let mut given = Given::new(names);
    while let Some(found) = reader.next_option() {
        let found = found.map_err(|error| IpvsadmError::word(error.text()))?;
        match found.row.means {
            Meaning::Verb(_) | Meaning::Help | Meaning::Version => {
                return Err(IpvsadmError::usage(format!("invalid option `{}'", reader.last())));
            }
            _ => given.on_option(&found)?,
        }
    }
    let mut plain = reader.into_plain();
    let timeouts = if verb == Verb::SetTimeouts { take_timeouts(&mut plain)? } else { [0; 3] };
    if let Some(word) = plain.first() {
        return Err(IpvsadmError::usage(format!("unexpected argument {word}")));
    }
    let scheduler_flags = values::scheduler_flags(&given.scheduler_flags, given.scheduler())?;
    legality::check(verb, &given.items)?;
    given.command(verb, scheduler_flags, timeouts)
}

fn check_daemon_state(verb: Verb, state: Option<&str>) -> Result<(), IpvsadmError> {
    match (verb, state) {
        (_, None | Some("master" | "backup")) => Ok(()),
        (Verb::StopDaemon, _) => Err(IpvsadmError::usage("illegal start_daemon specified")),
        (_, _) => Err(IpvsadmError::usage("illegal start-daemon parameter specified")),
    }
}

/// The three numbers of `--set`, wherever they are on the line.
fn take_timeouts(plain: &mut Vec<&str>) -> Result<[u32; 3], IpvsadmError> {
    if plain.len() < 3 {
        return Err(IpvsadmError::usage("--set option requires 3 timeout values"));
    }
    let mut timeouts = [0; 3];
    for (timeout, word) in timeouts.iter_mut().zip(plain.drain(..3)) {
        *timeout = values::timeout(word, 0)?;
    }
    Ok(timeouts)
}

/// The options read so far.
struct Given<'a> {
    names: &'a dyn Names,
    items: BTreeSet<Item>,
    service: Option<ServiceAddress>,
    scheduler: Option<String>,
    scheduler_flags: String,
    persistence: Option<u32>,
    mask: Option<Mask>,
    persistence_engine: Option<String>,
    real_server: Option<AddressPort>,
    forwarding: Option<Forwarding>,
    tunnel: TunnelType,
    weight: u32,
    upper_threshold: u32,
    lower_threshold: u32,
}

impl<'a> Given<'a> {
    fn new(names: &'a dyn Names) -> Given<'a> {
        Given {
            names,
            items: BTreeSet::new(),
            service: None,
            scheduler: None,
            scheduler_flags: String::new(),
            persistence: None,
            mask: None,
            persistence_engine: None,
            real_server: None,
            forwarding: None,
            tunnel: TunnelType::default(),
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }

    fn scheduler(&self) -> &str {
        self.scheduler.as_deref().filter(|name| !name.is_empty()).unwrap_or(SCHEDULER_DEFAULT)
    }

    fn on_option(&mut self, found: &FoundOption) -> Result<(), IpvsadmError> {
        let value = found.value.unwrap_or_default();
        match found.row.means {
            Meaning::Service(transport) => {
                self.note(Item::ServiceAddress)?;
                let place = values::place(value, Some(transport), self.names);
                let place = place
                    .ok_or_else(|| IpvsadmError::usage("illegal virtual server address[:port] specified"))?;
                self.service = Some(ServiceAddress::AddressPort(transport, place));
                Ok(())
            }
            Meaning::FirewallMark => {
                self.note(Item::ServiceAddress)?;
                let mark = values::number(value, 1..=u32::MAX).ok_or_else(|| {
                    IpvsadmError::usage(format!("invalid fwmark value `{value}' specified"))
                })?;
                self.service = Some(ServiceAddress::FirewallMark { mark, is_ipv6: false });
                Ok(())
            }
            Meaning::Ipv6 => match &mut self.service {
                Some(ServiceAddress::FirewallMark { is_ipv6, .. }) => {
                    *is_ipv6 = true;
                    Ok(())
                }
                // ipvsadm prints the empty line that follows too.
                _ => Err(IpvsadmError::usage("-6 used before -f\n")),
            },
            Meaning::Forwarding(forwarding) => {
                self.note(Item::ForwardingMethod)?;
                self.forwarding = Some(forwarding);
                Ok(())
            }
            Meaning::Item(item) => {
                self.note(item)?;
                self.on_item(item, found.value, value)
            }
            Meaning::Sort | Meaning::Verb(_) | Meaning::Help | Meaning::Version => Ok(()),
        }
    }

    fn note(&mut self, item: Item) -> Result<(), IpvsadmError> {
        if self.items.insert(item) {
            return Ok(());
        }
        Err(IpvsadmError::usage(format!("multiple '{}' options specified", item.name())))
    }

    fn on_item(&mut self, item: Item, written: Option<&str>, value: &str) -> Result<(), IpvsadmError> {
        let number = |range, name: &str| {
            values::number(value, range)
                .ok_or_else(|| IpvsadmError::usage(format!("illegal {name} specified")))
        };
        match item {
            Item::Scheduler => self.scheduler = Some(value.to_owned()),
            Item::SchedFlags => self.scheduler_flags = value.to_owned(),
            Item::Pe => self.persistence_engine = Some(value.to_owned()),
            Item::Persistent => {
                let timeout = written.map(|word| values::timeout(word, 1)).transpose()?;
                self.persistence = Some(timeout.unwrap_or(PERSISTENCE_DEFAULT));
            }
            Item::Netmask => {
                let is_ipv6 = self.service.as_ref().is_some_and(ServiceAddress::is_ipv6);
                self.mask = Some(values::mask(value, is_ipv6, self.names)?);
            }
            Item::RealServer => {
                let transport = self.service.as_ref().map(ServiceAddress::transport);
                let place = values::place(value, transport, self.names);
                let text = "illegal real server address[:port] specified";
                self.real_server = Some(place.ok_or_else(|| IpvsadmError::usage(text))?);
            }
            Item::Weight => self.weight = number(0..=WEIGHT_MAX, "weight")?,
            Item::UpperThreshold => self.upper_threshold = number(0..=i32::MAX as u32, "u_threshold")?,
            Item::LowerThreshold => self.lower_threshold = number(0..=i32::MAX as u32, "l_threshold")?,
            Item::SyncId => drop(number(0..=255, "syncid")?),
            Item::McastPort => drop(number(1..=65_535, "mcast-port")?),
            Item::McastTtl => drop(number(1..=255, "mcast-ttl")?),
            Item::SyncMaxlen => drop(number(1..=65_507, "sync-maxlen")?),
            Item::TunPort => drop(number(1..=65_535, "tunnel port")?),
            Item::McastGroup => check_group(value)?,
            Item::TunType => {
                let tunnel = TunnelType::ALL.into_iter().find(|tunnel| tunnel.name() == value);
                self.tunnel = tunnel.ok_or_else(|| IpvsadmError::usage("illegal tunnel type specified"))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn has(&self, item: Item) -> bool {
        self.items.contains(&item)
    }

    /// Builds the command from options that the table allows with it.
    fn command(self, verb: Verb, scheduler_flags: u8, timeouts: [u32; 3]) -> Result<Command, IpvsadmError> {
        Ok(match (verb, self.service) {
            (Verb::AddService, Some(address)) => {
                Command::AddService(self.service_terms(address, scheduler_flags)?)
            }
            (Verb::EditService, Some(address)) => {
                Command::EditService(self.service_terms(address, scheduler_flags)?)
            }
            (Verb::DeleteService, Some(address)) => Command::DeleteService(address),
            (Verb::AddServer, Some(address)) => Command::AddServer(address, self.server_terms(&address)?),
            (Verb::EditServer, Some(address)) => Command::EditServer(address, self.server_terms(&address)?),
            (Verb::DeleteServer, Some(address)) => {
                Command::DeleteServer(address, self.server_place(&address)?)
            }
            (Verb::List, service) => Command::List(self.list_terms(service)),
            (Verb::Zero, service) => Command::Zero(service),
            (Verb::Flush, _) => Command::Flush,
            (Verb::SetTimeouts, _) => Command::SetTimeouts(timeouts),
            (Verb::StartDaemon, _) => Command::StartDaemon,
            (Verb::StopDaemon, _) => Command::StopDaemon,
            (Verb::Restore, _) => Command::Restore,
            (Verb::Save, _) => Command::Save { is_numeric: self.has(Item::Numeric) },
            (_, None) => return Err(IpvsadmError::try_help()),
        })
    }

    fn service_terms(
        &self,
        address: ServiceAddress,
        scheduler_flags: u8,
    ) -> Result<ServiceTerms, IpvsadmError> {
        if let ServiceAddress::AddressPort(transport, place) = address {
            if place.port == 0 && self.persistence.is_none() {
                return Err(IpvsadmError::usage("Zero port specified for non-persistent service"));
            }
            if transport != Transport::Udp && self.has(Item::Ops) {
                return Err(IpvsadmError::usage("One-Packet Scheduling is only for UDP virtual services"));
            }
        }
        Ok(ServiceTerms {
            address,
            scheduler: self.scheduler().to_owned(),
            scheduler_flags,
            persistence: self.persistence,
            mask: self.mask,
            has_ops: self.has(Item::Ops),
            persistence_engine: self.persistence_engine.clone(),
        })
    }

    fn server_terms(&self, address: &ServiceAddress) -> Result<ServerTerms, IpvsadmError> {
        let place = self.server_place(address)?;
        let is_tunnel = self.forwarding == Some(Forwarding::Tunnel);
        if !is_tunnel && place.address.is_ipv6() != address.is_ipv6() {
            let text = "Different address family is allowed only for tunneling servers";
            return Err(IpvsadmError::usage(text));
        }
        let tunnel_options = [Item::TunType, Item::TunPort, Item::TunNocsum, Item::TunCsum, Item::TunRemcsum];
        if is_tunnel {
            legality::check_tunnel(self.tunnel, &self.items)?;
        } else if tunnel_options.iter().any(|item| self.has(*item)) {
            return Err(IpvsadmError::usage("Tunnel options conflict with forward method"));
        }
        let given = self.real_server.map_or(0, |place| place.port);
        Ok(ServerTerms {
            place,
            ignored_port: Some(given).filter(|port| *port != 0 && *port != place.port),
            forwarding: self.forwarding,
            tunnel: self.tunnel,
            weight: self.weight,
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
        })
    }

    /// The default is the service's port, which tunnels use in any case: a packet in a tunnel keeps its port.
    fn server_place(&self, address: &ServiceAddress) -> Result<AddressPort, IpvsadmError> {
        let place = self.real_server.ok_or_else(IpvsadmError::try_help)?;
        let keeps_port = place.port != 0 && self.forwarding == Some(Forwarding::Masquerading);
        Ok(match address {
            ServiceAddress::AddressPort(_, service) if !keeps_port => {
                AddressPort { port: service.port, ..place }
            }
            _ => place,
        })
    }

    fn list_terms(&self, service: Option<ServiceAddress>) -> ListTerms {
        // Of several kinds, ipvsadm prints the first in this order.
        let kinds = [
            (Item::Connection, ListKind::Connections),
            (Item::Timeout, ListKind::Timeouts),
            (Item::Daemon, ListKind::Daemons),
            (Item::Stats, ListKind::Statistics),
            (Item::Rate, ListKind::Rates),
            (Item::Thresholds, ListKind::Thresholds),
            (Item::PersistentConn, ListKind::PersistentConnections),
            (Item::TunInfo, ListKind::TunnelInfo),
        ];
        let kind = kinds.into_iter().find(|(item, _)| self.has(*item));
        ListTerms {
            service,
            kind: kind.map_or(ListKind::Plain, |(_, kind)| kind),
            is_numeric: self.has(Item::Numeric),
            is_exact: self.has(Item::Exact),
            is_unsorted: self.has(Item::NoSort),
            has_persistence_engines: self.has(Item::PersistentConn),
        }
    }
}

fn check_group(word: &str) -> Result<(), IpvsadmError> {
    let (family, address) = match word.contains(':') {
        true => ("IPv6", word.parse::<Ipv6Addr>().ok().map(IpAddr::from)),
        false => ("IPv4", word.parse::<Ipv4Addr>().ok().map(IpAddr::from)),
    };
    if address.is_some_and(|address| address.is_multicast()) {
        return Ok(());
    }
    Err(IpvsadmError::usage(format!("invalid {family} mcast-group `{word}'")))
}
