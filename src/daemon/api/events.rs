//! Events as they happen: one line of JSON per event.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::refusals::Reading;
use super::{Api, Refusal, json_lines};
use crate::control::model::{Event, Happened};
use crate::control::{Code, ControlError};

/// Every change from now on, one line each. A reader that is too slow gets a last line that says so.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    responses(
        (status = 200, description = "One event per line.", body = Event, content_type = "application/x-ndjson"),
        Reading
    )
)]
pub async fn events(State(api): State<Api>) -> Result<Response, Refusal> {
    let place = api.listeners.clone().try_acquire_owned().map_err(|_| {
        ControlError::new(Code::Busy, format!("{LISTENERS_MAX} clients already read events; disconnect one"))
    })?;
    let generation = api.shared.published().generation;
    let events = Some((api.shared.events(), generation, place));
    Ok(json_lines(Body::from_stream(futures_util::stream::unfold(events, next))))
}

/// Clients that may read events at once; this leaves connections for others.
pub const LISTENERS_MAX: usize = 64;

type Listener = (Receiver<Arc<Event>>, u64, OwnedSemaphorePermit);

/// The next line, and the listener for the line after it.
async fn next(listener: Option<Listener>) -> Option<(std::io::Result<Bytes>, Option<Listener>)> {
    let (mut events, generation, place) = listener?;
    match events.recv().await {
        Ok(event) => {
            let generation = event.generation;
            Some((line(&event), Some((events, generation, place))))
        }
        Err(RecvError::Lagged(missed)) => {
            let event = Event {
                generation,
                at: crate::daemon::clock::since_epoch(),
                by: "lvs-tund".to_owned(),
                what: Happened::Lagged,
                message: format!("{missed} events were missed; read the state again, then reconnect"),
                differences: Vec::new(),
            };
            Some((line(&event), None))
        }
        Err(RecvError::Closed) => None,
    }
}

fn line(event: &Event) -> std::io::Result<Bytes> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line.into())
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;

    fn place() -> OwnedSemaphorePermit {
        Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap()
    }

    fn event(generation: u64) -> Arc<Event> {
        Arc::new(Event {
            generation,
            at: 0.0,
            by: "uid 0".to_owned(),
            what: Happened::Changed,
            message: String::new(),
            differences: Vec::new(),
        })
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_is_told_and_let_go() {
        let events = broadcast::Sender::new(2);
        let listener = Some((events.subscribe(), 1, place()));
        for generation in 2..7 {
            events.send(event(generation)).unwrap();
        }
        let (line, listener) = next(listener).await.unwrap();
        let told: Event = serde_json::from_slice(&line.unwrap()).unwrap();
        assert_eq!(told.what, Happened::Lagged);
        assert!(told.message.starts_with("3 events were missed; "), "{}", told.message);
        assert!(listener.is_none() && next(listener).await.is_none());
    }

    #[tokio::test]
    async fn events_come_a_line_each() {
        let events = broadcast::Sender::new(2);
        let listener = Some((events.subscribe(), 1, place()));
        events.send(event(2)).unwrap();
        let (line, _) = next(listener).await.unwrap();
        let line = line.unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(serde_json::from_slice::<Event>(&line).unwrap(), *event(2));
    }
}
