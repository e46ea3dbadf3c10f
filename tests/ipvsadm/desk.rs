//! A director that consists of its configuration only, and an operator who types commands.

use std::net::{IpAddr, Ipv4Addr};

use lvs_tund::control::ipvsadm::command::{Command, ListKind};
use lvs_tund::control::ipvsadm::names::Names;
use lvs_tund::control::ipvsadm::options::{Transport, Verb};
use lvs_tund::control::ipvsadm::{IpvsadmError, grammar, kernel, listing, served};
use lvs_tund::control::model::{Rates, RealServer, Seconds, Statistics, Timeouts, VirtualService};
use lvs_tund::control::operation::{Running, apply};
use lvs_tund::director::cluster::{RealServerConfig, VirtualServiceConfig};
use lvs_tund::time::Moment;

/// The words of a line; those with blanks, and empty ones, stand in double quotes.
pub fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for (index, part) in line.split('"').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// What stands in /etc/hosts and /etc/services of a plain host.
pub struct HostFiles;

const SERVICES: [(&str, Transport, u16); 6] = [
    ("http", Transport::Tcp, 80),
    ("https", Transport::Tcp, 443),
    ("smtp", Transport::Tcp, 25),
    ("domain", Transport::Tcp, 53),
    ("domain", Transport::Udp, 53),
    ("ntp", Transport::Udp, 123),
];
const HOSTS: [(&str, Ipv4Addr); 3] = [
    ("localhost", Ipv4Addr::LOCALHOST),
    ("web.example", Ipv4Addr::new(172, 25, 3, 100)),
    ("twenty-three.example.org", Ipv4Addr::new(172, 25, 3, 2)),
];

impl Names for HostFiles {
    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        HOSTS.into_iter().find(|(name, _)| *name == host).map(|(_, address)| address)
    }

    fn port(&self, service: &str, transport: Transport) -> Option<u16> {
        let mut rows = SERVICES.into_iter();
        rows.find(|(name, of, _)| (*name, *of) == (service, transport)).map(|(_, _, port)| port)
    }

    fn host_of(&self, address: IpAddr) -> Option<String> {
        HOSTS.into_iter().find(|(_, known)| *known == address).map(|(name, _)| name.to_owned())
    }

    fn service_of(&self, port: u16, transport: Transport) -> Option<String> {
        let mut rows = SERVICES.into_iter();
        rows.find(|(_, of, known)| (*known, *of) == (port, transport)).map(|(name, _, _)| name.to_owned())
    }
}

#[derive(Default)]
pub struct Desk {
    pub running: Running,
    statistics: u64,
    connections: u32,
}

impl Desk {
    /// What every counter shows from here on.
    pub fn set(&mut self, key: &str, value: u64) {
        match key {
            "statistics" => self.statistics = value,
            "connections" => self.connections = value.try_into().expect("a number of connections"),
            _ => panic!("unknown setting {key}"),
        }
    }

    /// What is printed, and the exit code if it is not 0.
    pub fn enter(&mut self, words: &[String]) -> String {
        match self.run(words) {
            Ok(text) => text,
            Err(IpvsadmError { text, exit }) => format!("{text}\n[exit {exit}]\n"),
        }
    }

    fn run(&mut self, words: &[String]) -> Result<String, IpvsadmError> {
        let command = grammar::parse(words, &HostFiles)?;
        match &command {
            Command::List(terms) => match terms.kind {
                ListKind::Timeouts => Ok(listing::timeouts(&seconds(&self.running.defaults.timeouts))),
                ListKind::Daemons => Ok(String::new()),
                _ => listing::services(&self.services(), 4096, terms, &HostFiles),
            },
            _ => self.change(&command).map(|()| String::new()),
        }
    }

    fn change(&mut self, command: &Command) -> Result<(), IpvsadmError> {
        let operation = served::operation(command)?;
        let verb: Verb = command.change().expect("a change");
        let applied = apply(&self.running, &[operation], Moment::from_secs(1));
        self.running = applied.map_err(|error| kernel::refusal(verb, &error))?.running;
        Ok(())
    }

    pub fn services(&self) -> Vec<VirtualService> {
        let services = self.running.cluster.virtual_services.iter();
        services.map(|config| self.service(config)).collect()
    }

    fn statistics(&self) -> (Statistics, Rates) {
        let (connections, packets, bytes) = (self.statistics, self.statistics, self.statistics);
        (Statistics { connections, packets, bytes }, Rates { connections, packets, bytes })
    }

    fn service(&self, config: &VirtualServiceConfig) -> VirtualService {
        let (statistics, rates) = self.statistics();
        VirtualService {
            keys: config.into(),
            health: None,
            statistics,
            rates,
            real_servers: config.real_servers.iter().map(|server| self.server(server)).collect(),
        }
    }

    fn server(&self, config: &RealServerConfig) -> RealServer {
        let (statistics, rates) = self.statistics();
        RealServer {
            keys: config.into(),
            weight_now: config.weight,
            local: false,
            path_mtu_now: 1500,
            active_connections: self.connections,
            inactive_connections: self.connections,
            persistent_connections: self.connections,
            overloaded: false,
            drain: None,
            enabled: true,
            health: None,
            troubles: Vec::new(),
            transmit_errors: Vec::new(),
            statistics,
            rates,
        }
    }
}

pub fn seconds(timeouts: &lvs_tund::director::connection::Timeouts) -> Timeouts {
    Timeouts {
        tcp: Seconds(timeouts.established),
        tcp_fin: Seconds(timeouts.fin_wait),
        udp: Seconds(timeouts.udp),
    }
}
