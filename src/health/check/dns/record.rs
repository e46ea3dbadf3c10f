//! Types of DNS records, and their data for the eye as zone files have it (RFC 1035 §3.3, RFC 3596, RFC 2782).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::name;

/// The type of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordType(u16);

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const PTR: u16 = 12;
const MX: u16 = 15;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;

const NAMES: &[(&str, u16)] = &[
    ("A", A),
    ("NS", NS),
    ("CNAME", CNAME),
    ("SOA", SOA),
    ("PTR", PTR),
    ("MX", MX),
    ("TXT", TXT),
    ("AAAA", AAAA),
    ("SRV", SRV),
];

impl RecordType {
    /// A type by name, by number, or as "TYPE" and a number (RFC 3597).
    pub(super) fn read(text: &str) -> Option<RecordType> {
        let upper = text.to_ascii_uppercase();
        let digits = upper.strip_prefix("TYPE").unwrap_or(&upper);
        let by_name = NAMES.iter().find(|(name, _)| *name == upper).map(|(_, number)| *number);
        let is_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        by_name.or_else(|| digits.parse().ok().filter(|number| is_digits && *number != 0)).map(RecordType)
    }

    pub(super) fn number(self) -> u16 {
        self.0
    }

    /// An expected record in the form that [`Self::shown`] has, if it is one.
    pub(super) fn normal(self, text: &str) -> String {
        let words = || text.split_whitespace();
        let name = |word: &str| match word.strip_suffix('.') {
            Some(_) => word.to_ascii_lowercase(),
            None => format!("{}.", word.to_ascii_lowercase()),
        };
        match self.0 {
            A | AAAA => {
                text.trim().parse::<IpAddr>().map_or_else(|_| text.to_owned(), |address| address.to_string())
            }
            NS | CNAME | PTR => name(text.trim()),
            MX | SRV | SOA => {
                let is_name = |word: &&str| word.parse::<u32>().is_err();
                words()
                    .map(|word| if is_name(&word) { name(word) } else { word.to_owned() })
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            TXT => text.to_owned(),
            _ => words().collect::<String>().to_ascii_lowercase(),
        }
    }

    /// The data of a record that stands in a message.
    pub(super) fn shown(self, message: &[u8], data: Range<usize>) -> Option<String> {
        let bytes = message.get(data.clone())?;
        // A name may refer to an earlier place in the message, but ends with the record.
        let name = |at: usize| name::shown(message.get(..data.end)?, data.start + at);
        let whole = |(text, end): (String, usize)| (end == data.end).then_some(text);
        let word = |at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        match self.0 {
            A => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string()),
            AAAA => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
            NS | CNAME | PTR => name(0).and_then(whole),
            MX => Some(format!("{} {}", word(0)?, name(2).and_then(whole)?)),
            SRV => Some(format!("{} {} {} {}", word(0)?, word(2)?, word(4)?, name(6).and_then(whole)?)),
            SOA => {
                let (server, end) = name(0)?;
                let (mailbox, end) = name(end - data.start)?;
                let numbers: &[u8; 20] = message.get(end..data.end)?.try_into().ok()?;
                let number = |bytes: &[u8; 4]| u32::from_be_bytes(*bytes).to_string();
                let numbers: Vec<String> = numbers.as_chunks().0.iter().map(number).collect();
                Some(format!("{server} {mailbox} {}", numbers.join(" ")))
            }
            TXT => strings(bytes),
            _ => Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }
}

/// The strings of a TXT record, joined.
fn strings(bytes: &[u8]) -> Option<String> {
    let (mut text, mut rest) = (Vec::new(), bytes);
    while let Some((length, behind)) = rest.split_first() {
        text.extend_from_slice(behind.get(..usize::from(*length))?);
        rest = &behind[usize::from(*length)..];
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}
