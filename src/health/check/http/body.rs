//! The body of a response: its beginning is kept, and its MD5 is computed while it arrives, however long it is.

use md5::{Digest, Md5};

use crate::health::check::ANSWER_MAX;

/// A body without its framing, as far as it has arrived.
#[derive(Debug, Default)]
pub(super) struct Body {
    kept: Vec<u8>,
    length: u64,
    md5: Option<Md5>,
}

impl Body {
    /// Nothing has arrived. The MD5 is computed only if it is needed.
    pub(super) fn new(has_md5: bool) -> Body {
        Body { md5: has_md5.then(Md5::new), ..Body::default() }
    }

    /// Bytes have arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.kept.extend_from_slice(&bytes[..bytes.len().min(ANSWER_MAX - self.kept.len())]);
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
    }

    /// Its beginning, at most [`ANSWER_MAX`] bytes.
    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Its length, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether more has arrived than is kept.
    pub(super) fn is_longer_than_kept(&self) -> bool {
        self.length > self.kept.len() as u64
    }

    /// The MD5 of what has arrived, if it is computed.
    pub(super) fn md5(&self) -> Option<[u8; 16]> {
        self.md5.clone().map(|md5| md5.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_kept_and_the_md5_is_that_of_the_whole() {
        let mut body = Body::new(true);
        assert_eq!(body.md5(), Some(Md5::digest(b"").into()));
        let whole = vec![b'a'; ANSWER_MAX + 1];
        let (first, last) = whole.split_at(ANSWER_MAX - 1);
        body.push(first);
        body.push(&last[..1]);
        assert!(!body.is_longer_than_kept() && body.kept() == &whole[..ANSWER_MAX]);
        body.push(&last[1..]);
        assert!(body.is_longer_than_kept() && body.kept() == &whole[..ANSWER_MAX]);
        assert_eq!((body.length(), body.md5()), (whole.len() as u64, Some(Md5::digest(&whole).into())));
        assert_eq!(Body::new(false).md5(), None);
    }
}
