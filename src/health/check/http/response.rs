//! Reading an HTTP/1 response byte by byte, so that it ends at its last byte wherever packets end (RFC 9112).

use super::body::Body;
use crate::health::verdict::{Failure, FailureClass};

/// The most bytes of a status line and header fields together, those of interim responses included, and of a line between
/// chunks.
const HEAD_MAX: usize = 64 << 10;

/// A response as far as it has arrived.
#[derive(Debug, Default)]
pub(super) struct Response {
    /// 0 until the status line is complete.
    pub(super) status: u16,
    /// Names in lower case.
    fields: Vec<(String, String)>,
    /// Without its framing.
    pub(super) body: Body,
    stage: Stage,
    line: Vec<u8>,
    head_bytes: usize,
    is_head_request: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    StatusLine,
    Fields,
    /// This many bytes are missing.
    Length(u64),
    UntilClose,
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    End,
}

impl Response {
    /// Nothing has arrived; the answer to a HEAD request has no body.
    pub(super) fn new(is_head_request: bool, has_md5: bool) -> Response {
        Response { is_head_request, body: Body::new(has_md5), ..Response::default() }
    }

    /// Whether the status and all header fields are there.
    pub(super) fn has_head(&self) -> bool {
        !matches!(self.stage, Stage::StatusLine | Stage::Fields)
    }

    /// Whether the last byte is there.
    pub(super) fn is_complete(&self) -> bool {
        self.stage == Stage::End
    }

    /// The value of a header field; of the first, if it stands several times.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Bytes have arrived; those behind the response are ignored.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut rest = bytes;
        while !rest.is_empty() && self.stage != Stage::End {
            rest = match self.stage {
                Stage::UntilClose => {
                    self.body.push(rest);
                    &[]
                }
                Stage::Length(missing) => self.take(missing, rest, Stage::Length, Stage::End),
                Stage::Chunk(missing) => self.take(missing, rest, Stage::Chunk, Stage::ChunkEnd),
                _ => {
                    self.take_byte(rest[0])?;
                    &rest[1..]
                }
            };
        }
        Ok(())
    }

    /// The peer has closed the connection: an error if something is missing.
    pub(super) fn on_close(&mut self) -> Result<(), Failure> {
        let text = match self.stage {
            Stage::End | Stage::UntilClose => {
                self.stage = Stage::End;
                return Ok(());
            }
            Stage::StatusLine if self.head_bytes == 0 => "connection closed without an answer".to_owned(),
            Stage::StatusLine | Stage::Fields => {
                "connection closed before the end of the header fields".to_owned()
            }
            Stage::Length(missing) => format!("connection closed {missing} bytes before the end of the body"),
            _ => {
                format!(
                    "connection closed before the end of the body, after {} bytes of it",
                    self.body.length()
                )
            }
        };
        Err(Failure::new(FailureClass::Closed, text))
    }

    fn take<'a>(&mut self, missing: u64, bytes: &'a [u8], more: fn(u64) -> Stage, then: Stage) -> &'a [u8] {
        let count = usize::try_from(missing).unwrap_or(usize::MAX).min(bytes.len());
        self.body.push(&bytes[..count]);
        let missing = missing - count as u64;
        self.stage = if missing == 0 { then } else { more(missing) };
        &bytes[count..]
    }

    /// A byte of a line. RFC 9112 §2.2: a recipient may accept a line that ends with LF alone.
    fn take_byte(&mut self, byte: u8) -> Result<(), Failure> {
        if !matches!(self.stage, Stage::ChunkSize | Stage::ChunkEnd) {
            self.head_bytes += 1;
        }
        if self.head_bytes > HEAD_MAX {
            return Err(garbage(format!("more than {HEAD_MAX} bytes of header fields")));
        }
        if byte != b'\n' {
            if self.line.len() == HEAD_MAX {
                return Err(garbage("the size of a chunk is not a hexadecimal number"));
            }
            self.line.push(byte);
            let is_start = self.line.iter().zip(b"HTTP/1.").all(|(found, expected)| found == expected);
            let is_http = self.stage != Stage::StatusLine || is_start;
            return if is_http { Ok(()) } else { Err(garbage("the answer does not begin with HTTP/1")) };
        }
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let line = String::from_utf8_lossy(&line);
        self.stage = match self.stage {
            Stage::StatusLine => self.read_status(&line)?,
            Stage::Fields if line.is_empty() => self.body_stage()?,
            Stage::Fields => self.read_field(&line)?,
            Stage::ChunkSize => self.chunk_stage(&line)?,
            Stage::ChunkEnd if line.is_empty() => Stage::ChunkSize,
            Stage::ChunkEnd => return Err(garbage("a chunk is longer than its size")),
            Stage::Trailer if line.is_empty() => Stage::End,
            other => other,
        };
        Ok(())
    }

    fn read_status(&mut self, line: &str) -> Result<Stage, Failure> {
        // RFC 9112 §4: version, a space, three digits, a space, and a reason that may be empty.
        let mut parts = line.split(' ');
        let version = parts.next().unwrap_or_default().strip_prefix("HTTP/1.").unwrap_or_default();
        let code = parts.next().unwrap_or_default();
        let is_version = matches!(version.as_bytes(), [b'0'..=b'9']);
        match code.parse().ok().filter(|status| is_version && code.len() == 3 && *status >= 100) {
            Some(status) => self.status = status,
            None => return Err(garbage("the status line is not one of HTTP/1")),
        }
        Ok(Stage::Fields)
    }

    fn read_field(&mut self, line: &str) -> Result<Stage, Failure> {
        // RFC 9112 §5.2: a line that begins with a space continues the one above it.
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = self.fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
            return Ok(Stage::Fields);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| garbage("a header field without a colon"))?;
        self.fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        Ok(Stage::Fields)
    }

    /// What follows the header fields: RFC 9112 §6.3.
    fn body_stage(&mut self) -> Result<Stage, Failure> {
        if (100..200).contains(&self.status) && self.status != 101 {
            self.fields.clear();
            return Ok(Stage::StatusLine);
        }
        if self.is_head_request || matches!(self.status, 101 | 204 | 304) {
            return Ok(Stage::End);
        }
        let values = |name: &'static str| {
            let fields = self.fields.iter().filter(move |(found, _)| found == name);
            fields.flat_map(|(_, value)| value.split(',')).map(str::trim)
        };
        if let Some(last) = values("transfer-encoding").next_back() {
            let is_chunked = last.eq_ignore_ascii_case("chunked");
            return Ok(if is_chunked { Stage::ChunkSize } else { Stage::UntilClose });
        }
        let mut lengths = values("content-length");
        let Some(first) = lengths.next() else { return Ok(Stage::UntilClose) };
        let is_digits = first.bytes().all(|byte| byte.is_ascii_digit());
        match first.parse().ok().filter(|_| is_digits && lengths.all(|other| other == first)) {
            Some(0) => Ok(Stage::End),
            Some(length) => Ok(Stage::Length(length)),
            None => Err(garbage("the header field Content-Length is not one number")),
        }
    }

    fn chunk_stage(&mut self, line: &str) -> Result<Stage, Failure> {
        // RFC 9112 §7.1.1: extensions follow a semicolon, and are ignored.
        let digits = line.split(';').next().unwrap_or_default().trim();
        let is_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u64::from_str_radix(digits, 16).ok().filter(|_| is_digits) {
            Some(0) => Ok(Stage::Trailer),
            Some(size) => Ok(Stage::Chunk(size)),
            None => Err(garbage("the size of a chunk is not a hexadecimal number")),
        }
    }
}

fn garbage(text: impl Into<String>) -> Failure {
    Failure::new(FailureClass::Garbage, text)
}
