//! `virtual_server_group`: each address is a virtual service.

use std::net::{IpAddr, Ipv4Addr};

use super::keywords::surplus;
use super::tree::Statement;
use super::value::parsed;
use crate::config::consistency::SERVICES_MAX;
use crate::convert::draft::Block;

/// What a virtual server receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An address and a port; 0: all ports.
    Address(IpAddr, u16),
    /// A firewall mark.
    Mark(u32),
}

/// The members of a group, in their order.
pub(super) fn read(statement: &Statement, block: &mut Block) -> Vec<Target> {
    let mut members = Vec::new();
    for line in statement.statements() {
        match targets(line, block) {
            Ok(found) if members.len() + found.len() > SERVICES_MAX => {
                block.lose(line.remark("the group has more addresses than a director can have services"));
            }
            Ok(found) => members.extend(found),
            Err(reason) => block.lose(line.remark(reason)),
        }
    }
    members
}

fn targets(line: &Statement, block: &mut Block) -> Result<Vec<Target>, String> {
    if line.keyword() == "fwmark" {
        let mark = line.argument(1).and_then(parsed).filter(|mark| *mark > 0);
        // The family of a mark follows from what it stands for.
        let is_family = line.argument(2).is_some_and(|word| word == "inet" || word == "inet6");
        surplus(line, if is_family { 2 } else { 1 }, block);
        if is_family {
            block.note(line.remark("the family follows from the addresses in match"));
        }
        return Ok(vec![Target::Mark(mark.ok_or("expected a firewall mark as a number above 0")?)]);
    }
    surplus(line, 1, block);
    let port = match line.argument(1) {
        None => 0,
        Some(word) => parsed::<u16>(word).ok_or("expected a port as a number")?,
    };
    let addresses =
        addresses(line.keyword()).ok_or("expected IP, IP-LAST, IP-IP or IP/PREFIX, at most 16000 of them")?;
    Ok(addresses.into_iter().map(|address| Target::Address(address, port)).collect())
}

/// The addresses of `IP`, `IP-LAST`, `IP-IP` or `IP/PREFIX`.
fn addresses(word: &str) -> Option<Vec<IpAddr>> {
    if let Some(address) = parsed::<IpAddr>(word) {
        return Some(vec![address]);
    }
    let (first, last) = match (word.split_once('/'), word.split_once('-')) {
        (Some((first, length)), _) => {
            let first = u32::from(parsed::<Ipv4Addr>(first)?);
            let length: u32 = parsed(length).filter(|length| *length <= 32)?;
            let host = u32::MAX.checked_shr(length).unwrap_or(0);
            // keepalived refuses a prefix with host bits.
            if first & host != 0 {
                return None;
            }
            (first, first | host)
        }
        (_, Some((first, last))) => {
            let first = u32::from(parsed::<Ipv4Addr>(first)?);
            let last = match parsed::<u8>(last) {
                Some(octet) => first & !0xff | u32::from(octet),
                None => u32::from(parsed::<Ipv4Addr>(last)?),
            };
            (first, last)
        }
        (None, None) => return None,
    };
    let count = u64::from(last.checked_sub(first)?) + 1;
    let is_few = usize::try_from(count).is_ok_and(|count| count <= SERVICES_MAX);
    is_few.then(|| (first..=last).map(|address| Ipv4Addr::from(address).into()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_prefixes_contain_their_first_and_last_address() {
        let shown = |word| {
            addresses(word).map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(shown("10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(shown("10.0.0.1-3").as_deref(), Some("10.0.0.1 10.0.0.2 10.0.0.3"));
        assert_eq!(shown("10.0.0.255-10.0.1.0").as_deref(), Some("10.0.0.255 10.0.1.0"));
        assert_eq!(shown("10.0.0.4/31").as_deref(), Some("10.0.0.4 10.0.0.5"));
        assert_eq!(shown("10.0.0.4/32").as_deref(), Some("10.0.0.4"));
        assert_eq!(shown("2001:db8::1").as_deref(), Some("2001:db8::1"));
        for word in
            ["10.0.0.1/31", "10.0.0.3-1", "0.0.0.0/0", "10.0.0.0/33", "www", "10.0.0.1-", "10.0.0.0/8"]
        {
            assert_eq!(shown(word), None, "{word}");
        }
    }
}
