//! Questions and answers of DNS as bytes (RFC 1035 §4.1).

use super::name::shown;
use super::record::RecordType;

/// What a message is to a question.
pub(super) enum Read {
    /// No answer to it.
    Other,
    /// Its answer.
    Answer(Answer),
}

/// What an answer contains.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) rcode: u8,
    /// The server left records out.
    pub(super) is_truncated: bool,
    /// The records end in the middle, or contain a name that cannot be read.
    pub(super) is_broken: bool,
    /// The answers of the type in the question, as in a zone file.
    pub(super) records: Vec<String>,
}

const HEADER: usize = 12;
const CLASS_IN: u16 = 1;

/// RFC 1035 §4.1.1 and RFC 2136 §2.2.
const RCODES: &[&str] = &[
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
    "NOTAUTH", "NOTZONE",
];

/// A response code by name or number.
pub(super) fn rcode(text: &str) -> Option<u8> {
    let by_name = RCODES.iter().position(|name| name.eq_ignore_ascii_case(text));
    let code = by_name.and_then(|code| u8::try_from(code).ok()).or_else(|| text.parse().ok());
    code.filter(|code| *code < 16)
}

/// A response code for the eye.
pub(super) fn rcode_shown(code: u8) -> String {
    RCODES.get(usize::from(code)).map_or_else(|| format!("response code {code}"), |name| (*name).to_owned())
}

/// A question with recursion desired.
pub(super) fn question(id: u16, name: &[u8], record: RecordType) -> Vec<u8> {
    let words = [id, 0x0100, 1, 0, 0, 0];
    let header = words.iter().flat_map(|word| word.to_be_bytes());
    let end = [record.number(), CLASS_IN];
    header.chain(name.iter().copied()).chain(end.iter().flat_map(|word| word.to_be_bytes())).collect()
}

/// Reads a message as the answer to a question.
pub(super) fn read(bytes: &[u8], id: u16, name: &[u8], record: RecordType) -> Read {
    let word = |at: usize| bytes.get(at..at + 2).map_or(0, |word| u16::from_be_bytes([word[0], word[1]]));
    let (flags, questions, answers) = (word(2), word(4), word(6));
    let is_response = flags & 0x8000 != 0 && flags & 0x7800 == 0;
    if bytes.len() < HEADER || word(0) != id || !is_response {
        return Read::Other;
    }
    let rcode = (flags & 0x000f).to_be_bytes()[1];
    let is_truncated = flags & 0x0200 != 0;
    let answer = Answer { rcode, is_truncated, ..Answer::default() };
    // Some servers return an error without the question.
    if questions == 0 && rcode != 0 {
        return Read::Answer(answer);
    }
    let mut reader = Reader { bytes, at: HEADER };
    let expected = shown(name, 0).map(|(name, _)| name);
    let is_ours = questions == 1
        && reader.name().is_some_and(|name| Some(name) == expected)
        && reader.word() == Some(record.number())
        && reader.word() == Some(CLASS_IN);
    if !is_ours {
        return Read::Other;
    }
    Read::Answer(reader.answers(answers, record, answer))
}

/// Reads a message from the front.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn word(&mut self) -> Option<u16> {
        let word = self.bytes.get(self.at..self.at + 2)?;
        self.at += 2;
        Some(u16::from_be_bytes([word[0], word[1]]))
    }

    fn name(&mut self) -> Option<String> {
        let (name, end) = shown(self.bytes, self.at)?;
        self.at = end;
        Some(name)
    }

    fn answers(&mut self, count: u16, record: RecordType, mut answer: Answer) -> Answer {
        for _ in 0..count {
            match self.record(record) {
                Some(Some(text)) => answer.records.push(text),
                Some(None) => {}
                None => {
                    answer.is_broken = true;
                    break;
                }
            }
        }
        answer
    }

    /// `Some(None)`: a record of another type. `None`: it cannot be read.
    fn record(&mut self, expected: RecordType) -> Option<Option<String>> {
        self.name()?;
        let (number, class) = (self.word()?, self.word()?);
        let (_, _, length) = (self.word()?, self.word()?, self.word()?);
        let data = self.at..self.at + usize::from(length);
        self.bytes.get(data.clone())?;
        self.at = data.end;
        if number != expected.number() || class != CLASS_IN {
            return Some(None);
        }
        expected.shown(self.bytes, data).map(Some)
    }
}
