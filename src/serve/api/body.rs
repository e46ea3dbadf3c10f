//! Reads the body of a request, in bounded memory: short bodies at once, long ones one after the other.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::control::{Code, ControlError};

/// Enough for 32,000 services with four real servers each, as operations.
const BODY_MAX: usize = 32 << 20;

/// Any number of operations that a person types, and hundreds of those that a script makes.
const SHORT_MAX: usize = 64 << 10;

/// Until a body has arrived, counted from its header; the wait for another long one included.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// Between two parts of a body.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A parsed body. While a long one is in use, no other long one is read.
pub(super) struct Parsed<T> {
    pub value: T,
    pub place: Option<OwnedSemaphorePermit>,
}

/// Reads and parses a body; an empty one counts as `{}`. `long` has one place for the long bodies.
pub(super) async fn read<T: DeserializeOwned>(
    body: Body,
    long: &Arc<Semaphore>,
) -> Result<Parsed<T>, ControlError> {
    let (text, place) = receive(body, long).await?;
    Ok(Parsed { value: parse(&text)?, place })
}

async fn receive(
    body: Body,
    long: &Arc<Semaphore>,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), ControlError> {
    let too_large =
        |what: &str| ControlError::new(Code::TooLarge, format!("{what}: expected at most {BODY_MAX} bytes"));
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > BODY_MAX {
        return Err(too_large("the body is too long"));
    }
    let deadline = Instant::now() + BODY_DEADLINE;
    let mut place = None;
    let mut text = Vec::new();
    let mut parts = body.into_data_stream();
    loop {
        if place.is_none() && text.len().max(announced) > SHORT_MAX {
            place = timeout_at(deadline, long.clone().acquire_owned()).await.map_err(|_| busy())?.ok();
            text.reserve_exact(announced.saturating_sub(text.len()));
        }
        let part = timeout(PAUSE_MAX.min(deadline - Instant::now()), parts.next()).await;
        let Some(part) = part.map_err(|_| late())? else { return Ok((text, place)) };
        let part = part.map_err(|error| bad(format!("cannot read the body: {error}")))?;
        if text.len() + part.len() > BODY_MAX {
            return Err(too_large("the body is too long"));
        }
        text.extend_from_slice(&part);
    }
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, ControlError> {
    let text = if text.is_empty() { b"{}" } else { text };
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(bad("the body is not valid for this path: expected a JSON object".to_owned()));
    }
    serde_json::from_slice(text).map_err(|error| bad(format!("the body is not valid for this path: {error}")))
}

fn bad(message: String) -> ControlError {
    ControlError::new(Code::BadRequest, message)
}

fn late() -> ControlError {
    bad(format!(
        "the body did not arrive within {} s, or stopped for {} s",
        BODY_DEADLINE.as_secs(),
        PAUSE_MAX.as_secs()
    ))
}

fn busy() -> ControlError {
    ControlError::new(Code::Busy, "another long request is being read; try again later")
}

#[cfg(test)]
mod tests {
    use std::io;

    use axum::body::Bytes;
    use futures_util::stream;
    use serde_json::Value;

    use super::*;

    fn body(parts: &[usize]) -> Body {
        let parts: Vec<io::Result<Bytes>> =
            parts.iter().map(|length| Ok(vec![b' '; *length].into())).collect();
        Body::from_stream(stream::iter(parts).chain(stream::once(async { Ok(Bytes::from("{}")) })))
    }

    #[tokio::test]
    async fn long_bodies_are_in_memory_one_at_a_time_and_short_ones_do_not_wait() {
        let long = Arc::new(Semaphore::new(1));
        let first = read::<Value>(body(&[SHORT_MAX, 1]), &long).await.unwrap();
        assert!(first.place.is_some() && long.available_permits() == 0);
        let short = read::<Value>(body(&[SHORT_MAX - 2]), &long).await.unwrap();
        assert!(short.place.is_none());
        let waiting = tokio::spawn({
            let long = long.clone();
            async move {
                read::<Value>(body(&[1 << 20, 1 << 20]), &long).await.map(|parsed| parsed.place.is_some())
            }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished(), "two long bodies at once");
        drop(first);
        assert!(waiting.await.unwrap().unwrap());
        assert_eq!(long.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_body_above_the_limit_is_refused_whether_or_not_it_says_so() {
        let long = Arc::new(Semaphore::new(1));
        for body in [Body::from(vec![b' '; BODY_MAX + 1]), body(&[BODY_MAX - 1, 2])] {
            let error = read::<Value>(body, &long).await.err().unwrap();
            assert_eq!(error.code, Code::TooLarge, "{error}");
        }
        assert_eq!(read::<Value>(body(&[BODY_MAX - 2]), &long).await.unwrap().value, serde_json::json!({}));
        assert_eq!(read::<Value>(Body::empty(), &long).await.unwrap().value, serde_json::json!({}));
        let error = read::<Value>(Body::from("[]"), &long).await.err().unwrap();
        assert!(error.code == Code::BadRequest && error.message.contains("a JSON object"), "{error}");
    }

    #[tokio::test]
    async fn a_body_that_stops_is_given_up() {
        let long = Arc::new(Semaphore::new(1));
        let silent = stream::once(async { Ok::<_, io::Error>(Bytes::from("{")) }).chain(stream::pending());
        let begun = std::time::Instant::now();
        let error = read::<Value>(Body::from_stream(silent), &long).await.err().unwrap();
        assert!(error.message.contains("stopped for 5 s"), "{error}");
        assert!(begun.elapsed() >= PAUSE_MAX && begun.elapsed() < 2 * PAUSE_MAX);
    }
}
