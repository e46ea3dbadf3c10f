//! Messages of nf_tables, as far as [`super::notrack`] needs them: a batch that the kernel applies as a whole or not at
//! all (linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h).
//!
//! ```text
//! batch begin │ new table │ new set │ new chain │ … │ batch end
//!             └ length, type, flags, sequence │ family, version, subsystem │ attributes
//! ```

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 1 << 15;
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_IPV4: u8 = 2;

/// Bytes of the header of a message, and of that of nfnetlink behind it.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;

/// Elements in one message: the length of a nested attribute has 16 bits.
const ELEMENTS_MAX: usize = 1000;

/// Longer than the kernel takes to answer, which it does within its system call.
const ANSWER_MAX_SECONDS: i64 = 1;

/// A kind of message, with the flags that it has.
#[derive(Clone, Copy)]
enum Kind {
    NewTable,
    DelTable,
    NewChain,
    NewRule,
    DelRule,
    NewSet,
    NewSetElement,
    DelSetElement,
}

impl Kind {
    const fn number_and_flags(self) -> (u16, u16) {
        match self {
            Kind::NewTable => (0, NLM_F_CREATE),
            Kind::DelTable => (2, 0),
            Kind::NewChain => (3, NLM_F_CREATE),
            Kind::NewRule => (6, NLM_F_CREATE | NLM_F_APPEND),
            Kind::DelRule => (8, 0),
            Kind::NewSet => (9, NLM_F_CREATE),
            Kind::NewSetElement => (12, NLM_F_CREATE),
            Kind::DelSetElement => (14, 0),
        }
    }
}

/// Attributes, one behind the other, each padded to four bytes.
#[derive(Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.put(kind, &[value.as_bytes(), &[0]].concat());
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes)) {
        let mut inner = Attributes::default();
        fill(&mut inner);
        self.put(kind | NLA_F_NESTED, &inner.0);
    }

    /// NFTA_DATA_VALUE in an attribute of its own.
    fn data(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |data| data.put(1, value));
    }
}

/// What a rule does, step by step. Registers are the 32-bit ones, numbered from 0.
pub(super) enum Step {
    /// Loads a part of the packet.
    Load { register: u32, from: Header, offset: u32, length: u32 },
    /// Loads the protocol number behind the IP header.
    LoadProtocol { register: u32 },
    /// Continues if the register compares so with these bytes.
    Compare { register: u32, with: Comparison, value: Vec<u8> },
    /// Continues if the registers from this one on are an element of the set.
    Find { register: u32, set: &'static str },
    /// Connection tracking ignores the packet.
    Untrack,
}

/// From where a part of the packet is counted.
#[derive(Clone, Copy)]
pub(super) enum Header {
    Network,
    Transport,
}

/// As numbers in network order.
#[derive(Clone, Copy)]
pub(super) enum Comparison {
    Equal,
    AtMost,
    AtLeast,
}

impl Step {
    fn write(&self, list: &mut Attributes) {
        let register = |number: u32| 8 + number;
        list.nest(1, |expression| {
            let mut named = |name, fill: &dyn Fn(&mut Attributes)| {
                expression.text(1, name);
                expression.nest(2, fill);
            };
            match self {
                Step::Load { register: to, from, offset, length } => named("payload", &|data| {
                    data.number(1, register(*to));
                    data.number(2, if matches!(from, Header::Network) { 1 } else { 2 });
                    data.number(3, *offset);
                    data.number(4, *length);
                }),
                // NFT_META_L4PROTO
                Step::LoadProtocol { register: to } => named("meta", &|data| {
                    data.number(1, register(*to));
                    data.number(2, 16);
                }),
                Step::Compare { register: of, with, value } => named("cmp", &|data| {
                    data.number(1, register(*of));
                    let operator = match with {
                        Comparison::Equal => 0,
                        Comparison::AtMost => 3,
                        Comparison::AtLeast => 5,
                    };
                    data.number(2, operator);
                    data.data(3, value);
                }),
                Step::Find { register: from, set } => named("lookup", &|data| {
                    data.text(1, set);
                    data.number(2, register(*from));
                }),
                Step::Untrack => expression.text(1, "notrack"),
            }
        });
    }
}

/// Changes to one table of the family `ip`.
pub(super) struct Batch<'a> {
    table: &'a str,
    bytes: Vec<u8>,
    messages: u32,
}

impl<'a> Batch<'a> {
    pub(super) fn new(table: &'a str) -> Batch<'a> {
        let mut batch = Batch { table, bytes: Vec::new(), messages: 0 };
        batch.message(BATCH_BEGIN, 0, NFPROTO_UNSPEC, &Attributes::default());
        batch
    }

    /// Adds the table if it is missing. One with an owner disappears with the socket (NFT_TABLE_F_OWNER, Linux 5.12).
    pub(super) fn add_table(&mut self, has_owner: bool) {
        self.change(Kind::NewTable, |table| {
            if has_owner {
                table.number(2, 2);
            }
        });
    }

    pub(super) fn delete_table(&mut self) {
        self.change(Kind::DelTable, |_| ());
    }

    /// Adds a set of keys of this many bytes if it is missing. `key_type` is what the program `nft` calls the parts of the key.
    pub(super) fn add_set(&mut self, name: &str, key_type: u32, key_length: u32) {
        self.change(Kind::NewSet, |set| {
            set.text(2, name);
            set.number(3, 0);
            set.number(4, key_type);
            set.number(5, key_length);
            set.number(10, 1);
        });
    }

    /// Replaces the elements of a set.
    pub(super) fn fill_set(&mut self, name: &str, keys: &[Vec<u8>]) {
        self.change(Kind::DelSetElement, |list| list.text(2, name));
        for keys in keys.chunks(ELEMENTS_MAX) {
            self.change(Kind::NewSetElement, |list| {
                list.text(2, name);
                list.nest(3, |elements| {
                    keys.iter().for_each(|key| elements.nest(1, |element| element.data(1, key)));
                });
            });
        }
    }

    /// Adds a base chain that accepts, without rules.
    pub(super) fn renew_chain(&mut self, name: &str, hook: u32, priority: i32) {
        self.change(Kind::NewChain, |chain| {
            chain.text(3, name);
            chain.nest(4, |at| {
                at.number(1, hook);
                at.put(2, &priority.to_be_bytes());
            });
            chain.number(5, 1);
            chain.text(7, "filter");
        });
        self.change(Kind::DelRule, |rule| rule.text(2, name));
    }

    pub(super) fn add_rule(&mut self, chain: &str, steps: &[Step]) {
        self.change(Kind::NewRule, |rule| {
            rule.text(2, chain);
            rule.nest(4, |list| steps.iter().for_each(|step| step.write(list)));
        });
    }

    /// Every message begins with the table's name.
    fn change(&mut self, kind: Kind, fill: impl FnOnce(&mut Attributes)) {
        let mut attributes = Attributes::default();
        attributes.text(1, self.table);
        fill(&mut attributes);
        let (number, flags) = kind.number_and_flags();
        self.message(SUBSYSTEM << 8 | number, flags | NLM_F_ACK, NFPROTO_IPV4, &attributes);
    }

    fn message(&mut self, kind: u16, flags: u16, family: u8, attributes: &Attributes) {
        let length = u32::try_from(HEADER + FAMILY_HEADER + attributes.0.len()).unwrap_or(u32::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend(self.messages.to_ne_bytes());
        self.bytes.extend([0; 4]);
        // The subsystem of a batch stands where messages have the resource.
        let resource = if kind == BATCH_BEGIN || kind == BATCH_END { SUBSYSTEM } else { 0 };
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(&attributes.0);
        self.messages += 1;
    }
}

/// A socket to nf_tables, in the network namespace of the thread that opened it.
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn open() -> io::Result<Socket> {
        let protocol = SockProtocol::NetlinkNetFilter;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_MAX_SECONDS))?;
        Ok(Socket(fd))
    }

    /// Applies a batch as a whole.
    ///
    /// # Errors
    /// The kernel's first refusal; then nothing has changed.
    pub(super) fn apply(&self, mut batch: Batch) -> io::Result<()> {
        batch.message(BATCH_END, 0, NFPROTO_UNSPEC, &Attributes::default());
        // A batch is one datagram. The kernel counts twice its length.
        let needed = 2 * batch.bytes.len() + (64 << 10);
        // Refused in a user namespace; the default is enough for some thousand virtual services.
        let _ = setsockopt(&self.0, sockopt::SndBufForce, &needed);
        let _ = setsockopt(&self.0, sockopt::RcvBufForce, &needed);
        send(self.0.as_raw_fd(), &batch.bytes, MsgFlags::empty())?;
        self.hear_answers(batch.messages)
    }

    /// Every message but the first and the last is acknowledged; an error about the whole batch names the first.
    fn hear_answers(&self, messages: u32) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        let last = messages - 2;
        let mut failure = None;
        loop {
            let length = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                // There may be no more answers after an error.
                Err(errno) => return Err(failure.unwrap_or_else(|| errno.into())),
            };
            for (number, errno) in answers(&buffer[..length]) {
                if errno != 0 && failure.is_none() {
                    failure = Some(io::Error::from_raw_os_error(errno));
                }
                if number == last || number == 0 {
                    return failure.map_or(Ok(()), Err);
                }
            }
        }
    }
}

/// The sequence number and the errno of each acknowledgement in a datagram.
fn answers(mut bytes: &[u8]) -> Vec<(u32, i32)> {
    let number = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes)
    };
    let mut found = Vec::new();
    while let (Some(length), Some(kind), Some(sequence)) =
        (number(bytes, 0), number(bytes, 4), number(bytes, 8))
    {
        if kind & 0xffff == u32::from(NLMSG_ERROR)
            && let Some(error) = number(bytes, HEADER)
        {
            found.push((sequence, -error.cast_signed()));
        }
        let Some(rest) = bytes.get((length as usize).next_multiple_of(4).max(HEADER)..) else { break };
        bytes = rest;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_padded_to_four_bytes_and_its_length_is_not() {
        let mut attributes = Attributes::default();
        attributes.text(3, "ab");
        attributes.nest(4, |inner| inner.number(1, 7));
        let expected: &[&[u8]] = &[
            &7u16.to_ne_bytes(),
            &3u16.to_ne_bytes(),
            b"ab\0\0",
            &12u16.to_ne_bytes(),
            &0x8004u16.to_ne_bytes(),
            &8u16.to_ne_bytes(),
            &1u16.to_ne_bytes(),
            &[0, 0, 0, 7],
        ];
        assert_eq!(attributes.0, expected.concat());
    }

    #[test]
    fn a_batch_numbers_its_messages_and_their_lengths_add_up() {
        let mut batch = Batch::new("t");
        batch.add_table(false);
        batch.fill_set("s", &vec![vec![1, 2, 3, 4]; ELEMENTS_MAX + 1]);
        let mut rest = batch.bytes.as_slice();
        let mut kinds = Vec::new();
        while !rest.is_empty() {
            let word = |at: usize| u16::from_ne_bytes([rest[at], rest[at + 1]]);
            kinds.push((word(4), u32::from(word(8))));
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]);
            rest = &rest[length as usize..];
        }
        assert_eq!(kinds, [(0x10, 0), (0xa00, 1), (0xa0e, 2), (0xa0c, 3), (0xa0c, 4)]);
    }

    #[test]
    fn an_answer_has_the_number_of_its_message_and_the_errno() {
        let acknowledgement = |sequence: u32, error: i32| {
            let mut bytes = Vec::new();
            bytes.extend(36u32.to_ne_bytes());
            bytes.extend(NLMSG_ERROR.to_ne_bytes());
            bytes.extend(0u16.to_ne_bytes());
            bytes.extend(sequence.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(error.to_ne_bytes());
            bytes.extend([0; 16]);
            bytes
        };
        let two = [acknowledgement(3, 0), acknowledgement(4, -17)].concat();
        assert_eq!(answers(&two), [(3, 0), (4, 17)]);
        assert!(answers(&two[..8]).is_empty() && answers(&[]).is_empty());
    }
}
