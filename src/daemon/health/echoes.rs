//! Echo requests and replies as a check sees them: their payload (RFC 792).

use std::io;

use super::sockets::Datagrams;

const HEADER: usize = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;

/// Sends payloads in echo requests, and receives those of the replies.
pub(super) struct Echoes<S> {
    socket: S,
    identifier: u16,
    sequence: u16,
}

impl<S> Echoes<S> {
    /// `identifier` distinguishes them from those of other probes.
    pub(super) fn new(socket: S, identifier: u16) -> Echoes<S> {
        Echoes { socket, identifier, sequence: 0 }
    }
}

impl<S: Datagrams> Datagrams for Echoes<S> {
    async fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let (identifier, sequence) = (self.identifier.to_be_bytes(), self.sequence.to_be_bytes());
        let message = [&[ECHO_REQUEST, 0, 0, 0][..], &identifier, &sequence, payload].concat();
        self.socket.send(&message).await
    }

    /// The payload of the next reply to one of these requests.
    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let message = self.socket.receive().await?;
            let is_ours = message.first() == Some(&ECHO_REPLY)
                && message.get(4..6) == Some(self.identifier.to_be_bytes().as_slice());
            let Some(payload) = message.get(HEADER..).filter(|_| is_ours) else { continue };
            return Ok(payload.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Answers with the messages that it holds, and keeps what was sent.
    #[derive(Default)]
    struct Fake {
        sent: Vec<Vec<u8>>,
        answers: VecDeque<Vec<u8>>,
    }

    impl Datagrams for Fake {
        async fn send(&mut self, message: &[u8]) -> io::Result<()> {
            self.sent.push(message.to_vec());
            Ok(())
        }

        async fn receive(&mut self) -> io::Result<Vec<u8>> {
            Ok(self.answers.pop_front().ok_or(io::ErrorKind::TimedOut)?)
        }
    }

    #[tokio::test]
    async fn a_payload_travels_in_a_numbered_request_and_comes_back_in_its_reply_only() {
        let answers = [
            vec![0, 0, 9, 9, 0x12, 0x35, 0, 1, b'o', b't', b'h', b'e', b'r'],
            vec![8, 0, 9, 9, 0x12, 0x34, 0, 1, b'l', b'o', b'o', b'p'],
            vec![0, 0, 9],
            vec![0, 0, 9, 9, 0x12, 0x34, 0, 1, b'p', b'i', b'n', b'g'],
        ];
        let mut echoes = Echoes::new(Fake { answers: answers.into(), ..Fake::default() }, 0x1234);
        echoes.send(b"ping").await.unwrap();
        echoes.send(b"").await.unwrap();
        assert_eq!(echoes.socket.sent[0], [8, 0, 0, 0, 0x12, 0x34, 0, 1, b'p', b'i', b'n', b'g']);
        assert_eq!(echoes.socket.sent[1], [8, 0, 0, 0, 0x12, 0x34, 0, 2]);
        assert_eq!(echoes.receive().await.unwrap(), b"ping");
        assert_eq!(echoes.receive().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
