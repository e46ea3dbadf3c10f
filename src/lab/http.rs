//! The part of HTTP/1.1 that a test and a demo need: a server that answers with its name, and a client.
//!
//! Neither supports TLS or redirects, and the server no chunked bodies; both limit what they read. They work in the namespace
//! of the thread that calls them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

mod server;

pub use server::Server;

/// Longest request or response head accepted, in bytes.
const HEAD_MAX: u64 = 16 * 1024;
/// Longest body accepted, in bytes.
const BODY_MAX: u64 = 1 << 30;

/// The answer that a client received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text, without the newline at its end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_end().to_owned()
    }
}

/// One connection, kept open over several requests.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

impl Connection {
    /// Connects; `patience` limits the time to connect and each later wait for bytes.
    ///
    /// # Errors
    /// Connecting fails.
    pub fn open(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: BufReader::new(stream), host: address })
    }

    /// Sends a request and keeps the connection open.
    ///
    /// # Errors
    /// An error of the socket, or `InvalidData` if the answer is not HTTP.
    pub fn get(&mut self, path: &str) -> io::Result<Response> {
        self.send("GET", path, "keep-alive", &[])
    }

    /// Sends `body`, which the lab's server counts and discards.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Response> {
        self.send("POST", path, "keep-alive", body)
    }

    /// The underlying socket, for its addresses and options.
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    fn send(&mut self, method: &str, path: &str, connection: &str, body: &[u8]) -> io::Result<Response> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: {connection}\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;
        let head = read_head(&mut self.stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| invalid("the status line is not HTTP"))?;
        let mut body = Vec::new();
        match head.content_length {
            _ if head.is_chunked => read_chunks(&mut self.stream, &mut body)?,
            Some(length) if length > BODY_MAX => return Err(invalid("the body is too long")),
            Some(length) => {
                self.stream.by_ref().take(length).read_to_end(&mut body)?;
                if (body.len() as u64) < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            None => drop(self.stream.by_ref().take(BODY_MAX).read_to_end(&mut body)?),
        }
        Ok(Response { status, body })
    }
}

/// One request on its own connection.
///
/// # Errors
/// As [`Connection::open`] and [`Connection::get`].
pub fn get(address: SocketAddr, path: &str, patience: Duration) -> io::Result<Response> {
    Connection::open(address, patience)?.send("GET", path, "close", &[])
}

struct Head {
    first: String,
    content_length: Option<u64>,
    closes: bool,
    is_chunked: bool,
}

/// RFC 9112 §7.1, without extensions and trailers.
fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        stream.take(HEAD_MAX).read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim_end(), 16).ok();
        let length = length.filter(|length| *length <= BODY_MAX - body.len() as u64);
        let length = length.ok_or_else(|| invalid("the length of a chunk is not valid"))?;
        let before = body.len() as u64;
        stream.take(length).read_to_end(body)?;
        let mut end = [0; 2];
        stream.read_exact(&mut end)?;
        if body.len() as u64 - before < length || end != *b"\r\n" {
            return Err(invalid("a chunk is cut off"));
        }
        if length == 0 {
            return Ok(());
        }
    }
}

/// Reads up to the empty line; `None` if the peer closed the connection before the first byte.
fn read_head(stream: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut stream = stream.take(HEAD_MAX);
    let mut head = Head { first: String::new(), content_length: None, closes: false, is_chunked: false };
    if stream.read_line(&mut head.first)? == 0 {
        return Ok(None);
    }
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(invalid("the head is cut off or too long"));
        }
        let line = line.trim_end();
        if line.is_empty() {
            head.first.truncate(head.first.trim_end().len());
            return Ok(Some(head));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header line has no colon"))?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let length = value.trim().parse().map_err(|_| invalid("content-length is not a number"))?;
                head.content_length = Some(length);
            }
            "connection" => head.closes = value.trim().eq_ignore_ascii_case("close"),
            "transfer-encoding" => head.is_chunked = value.trim().eq_ignore_ascii_case("chunked"),
            _ => (),
        }
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> io::Result<Option<Head>> {
        read_head(&mut text.as_bytes())
    }

    #[test]
    fn a_head_has_a_length_and_closes_the_connection_or_not() {
        let head =
            head("GET / HTTP/1.1\r\ncontent-length: 12\r\nConnection: Close\r\n\r\n").unwrap().unwrap();
        assert_eq!(head.first, "GET / HTTP/1.1");
        assert_eq!(head.content_length, Some(12));
        assert!(head.closes);
    }

    #[test]
    fn an_invalid_head_is_rejected() {
        assert!(head("").unwrap().is_none());
        assert!(head("GET / HTTP/1.1\r\n").is_err(), "cut off");
        assert!(head("GET / HTTP/1.1\r\nnonsense\r\n\r\n").is_err(), "no colon");
        let long = format!(
            "GET / HTTP/1.1\r\n{}\r\n\r\n",
            "a: b\r\n".repeat(usize::try_from(HEAD_MAX).unwrap() / 6 + 1)
        );
        assert!(head(&long).is_err(), "too long");
    }

    #[test]
    fn a_chunked_body_is_reassembled() {
        let read = |text: &str| {
            let mut body = Vec::new();
            read_chunks(&mut text.as_bytes(), &mut body).map(|()| String::from_utf8(body).unwrap())
        };
        assert_eq!(read("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n").unwrap(), "abc0123456789");
        for text in ["3\r\nab", "3\r\nabcd\r\n0\r\n\r\n", "x\r\n", "ffffffffffffffff\r\n", ""] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
