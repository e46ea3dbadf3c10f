//! The keys that all three programs have: what a virtual service receives, persistence, the scheduler.

use std::net::{IpAddr, Ipv4Addr};

use super::draft::{Block, Entry, Receives, Remark, Service, Value};
use crate::config::keys::scheduler::SCHEDULER;
use crate::config::kinds::{Address, RipAddress, Word};
use crate::director::cluster::{Matcher, Ports};
use crate::packet::Protocol;

/// What differs for a real server of direct routing.
pub const DIRECT_ROUTING: &str =
    "packets are tunnelled: run `lvs-tund realserver` on the real servers, and mind their MTU";
/// What differs for a real server behind masquerading.
pub const MASQUERADING: &str = "packets are tunnelled: replies no longer pass through the director, so run `lvs-tund realserver` on the \
                                real servers, which need an address and a route that clients can reach";
/// Why another port cannot be reached.
pub const OTHER_PORT: &str =
    "the port is not translated: let the real server serve the port of the virtual service";
/// What to do about a firewall mark.
const FIREWALL_MARK: &str =
    "by the packets that the firewall marks: match = [\"tcp VIP:80\", \"tcp VIP:443\"]";

/// The largest timeout of ipvsadm and of this program, in seconds.
pub const TIMEOUT_MAX: u32 = crate::control::ipvsadm::values::TIMEOUT_MAX;

/// A virtual service for these packets; `protocol` in lower case. One that cannot be matched is disabled.
pub fn service(origin: &Remark, protocol: &'static str, vip: IpAddr, port: u16) -> Service {
    let known = match protocol {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    };
    let address = Address.parse("vip", &vip.to_string());
    let ports = if port == 0 { Ports::ALL } else { Ports::one(port) };
    if let (Some(protocol), Ok(vip)) = (known, &address) {
        return Service::new(origin.clone(), Receives::Packets(Matcher { protocol, vip: *vip, ports }));
    }
    let port = if port == 0 { Value::text("all") } else { Value::Number(port.into()) };
    let keys =
        vec![("protocol", Value::text(protocol)), ("vip", Value::text(vip.to_string())), ("port", port)];
    let mut service = Service::new(origin.clone(), Receives::Other(keys));
    service.disable(
        address
            .err()
            .unwrap_or_else(|| format!("protocol {protocol} is not forwarded; only tcp and udp are")),
    );
    service
}

/// The skeleton of a virtual service for a firewall mark.
pub fn marked(origin: &Remark, mark: &str) -> Service {
    let example = Value::List(vec![Value::text("tcp VIP:80"), Value::text("tcp VIP:443")]);
    let mut service = Service::new(origin.clone(), Receives::Other(vec![("match", example)]));
    service.disable(format!("replace the firewall mark {mark} {FIREWALL_MARK}"));
    service
}

/// Why this address is no real server's.
pub fn check_rip(rip: IpAddr) -> Result<(), String> {
    RipAddress.parse("rip", &rip.to_string()).map(drop)
}

/// A line that an operator has to look at: the files of the other programs do not name the interface.
pub fn unknown_interface(top: &mut Block) {
    let text =
        "interface: the file does not name it; change the next line if clients' packets arrive elsewhere";
    top.entries.push(Entry::Comment(text.to_owned()));
    top.set("interface", Value::text("eth0"));
}

/// The prefix length of a mask without holes.
pub fn prefix(mask: Ipv4Addr) -> Option<u32> {
    let bits = u32::from(mask);
    let ones = bits.leading_ones();
    (ones > 0 && ones == bits.count_ones()).then_some(ones)
}

/// Whether there is a scheduler of this name.
pub fn is_scheduler(name: &str) -> bool {
    SCHEDULER.parse("scheduler", name).is_ok()
}

/// The flags of a scheduler, by their meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `flag-1`.
    pub has_fallback: bool,
    /// `flag-2`.
    pub has_port: bool,
}

impl Flags {
    /// Sets the flag of this name for this scheduler.
    ///
    /// # Errors
    /// Why it has no effect.
    pub fn set(&mut self, scheduler: &str, flag: &str) -> Result<(), String> {
        let meaning = match flag {
            "flag-1" => "fallback",
            "flag-2" => "port",
            _ => flag.strip_prefix(scheduler).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default(),
        };
        match meaning {
            _ if !matches!(scheduler, "sh" | "mh") => {
                return Err(format!("scheduler {scheduler} has no flags"));
            }
            "fallback" => self.has_fallback = true,
            "port" => self.has_port = true,
            _ => return Err(format!("scheduler {scheduler} has no such flag")),
        }
        Ok(())
    }

    /// Writes them.
    pub fn write(self, scheduler: &str, block: &mut Block) {
        let flags = [(self.has_port, "port"), (self.has_fallback, "fallback")];
        let flags = flags.into_iter().filter(|(is_set, _)| *is_set);
        let flags: Vec<Value> = flags.map(|(_, flag)| Value::text(format!("{scheduler}-{flag}"))).collect();
        if !flags.is_empty() && matches!(scheduler, "sh" | "mh") {
            block.set("scheduler_flags", Value::List(flags));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_with_holes_has_no_prefix() {
        let cases = [("255.255.255.0", Some(24)), ("255.255.255.255", Some(32)), ("0.0.0.24", None)];
        for (mask, expected) in cases {
            assert_eq!(prefix(mask.parse().unwrap()), expected, "{mask}");
        }
        assert_eq!(prefix(Ipv4Addr::UNSPECIFIED), None);
        assert_eq!(prefix("255.0.255.0".parse().unwrap()), None);
    }

    #[test]
    fn a_flag_belongs_to_its_scheduler() {
        let set = |scheduler, flag| {
            let mut flags = Flags::default();
            flags.set(scheduler, flag).map(|()| (flags.has_fallback, flags.has_port))
        };
        assert_eq!(set("sh", "sh-port"), Ok((false, true)));
        assert_eq!(set("mh", "mh-fallback"), Ok((true, false)));
        assert_eq!(set("mh", "flag-1"), Ok((true, false)));
        assert_eq!(set("sh", "flag-2"), Ok((false, true)));
        assert_eq!(set("sh", "flag-3"), Err("scheduler sh has no such flag".to_owned()));
        assert_eq!(set("mh", "sh-port"), Err("scheduler mh has no such flag".to_owned()));
        assert_eq!(set("rr", "flag-1"), Err("scheduler rr has no flags".to_owned()));
    }
}
