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
use crate::control::model::{Event, EventKind};
use crate::control::{Code, ControlError};

/// Every change from now on, one line each. A reader that is too slow gets a last line that reports it.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    responses(
        (status = 200, description = "One event per line.", body = Event, content_type = "application/x-ndjson"),
        Reading
    )
)]
pub(super) async fn events(State(api): State<Api>) -> Result<Response, Refusal> {
    let place = api.listeners.clone().try_acquire_owned().map_err(|_| {
        ControlError::new(
            Code::Busy,
            format!("{LISTENERS_MAX} clients are already reading events; disconnect one"),
        )
    })?;
    let (director, generation) = (api.director.clone(), api.director.published().generation);
    let reader = EventReader {
        events: api.director.events(),
        generation,
        wall_clock: Box::new(move || director.since_epoch()),
        _place: place,
    };
    Ok(json_lines(Body::from_stream(futures_util::stream::unfold(Some(reader), next))))
}

/// Clients that may read events at once; this leaves connections for others.
pub(super) const LISTENERS_MAX: usize = 64;

/// A client that reads events.
struct EventReader {
    events: Receiver<Arc<Event>>,
    /// Of the event sent last.
    generation: u64,
    wall_clock: Box<dyn Fn() -> f64 + Send>,
    _place: OwnedSemaphorePermit,
}

/// The next line, and the reader for the line after it.
async fn next(reader: Option<EventReader>) -> Option<(std::io::Result<Bytes>, Option<EventReader>)> {
    let mut reader = reader?;
    match reader.events.recv().await {
        Ok(event) => {
            reader.generation = event.generation;
            Some((line(&event), Some(reader)))
        }
        Err(RecvError::Lagged(missed)) => {
            let event = Event {
                generation: reader.generation,
                at: (reader.wall_clock)(),
                by: "lvs-tund".to_owned(),
                what: EventKind::Lagged,
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

    fn reader_of(events: Receiver<Arc<Event>>) -> EventReader {
        let place = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
        EventReader { events, generation: 1, wall_clock: Box::new(|| 9.5), _place: place }
    }

    fn event(generation: u64) -> Arc<Event> {
        Arc::new(Event {
            generation,
            at: 0.0,
            by: "uid 0".to_owned(),
            what: EventKind::Changed,
            message: String::new(),
            differences: Vec::new(),
        })
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_gets_a_last_line_and_is_disconnected() {
        let events = broadcast::Sender::new(2);
        let reader = Some(reader_of(events.subscribe()));
        for generation in 2..7 {
            events.send(event(generation)).unwrap();
        }
        let (line, reader) = next(reader).await.unwrap();
        let last: Event = serde_json::from_slice(&line.unwrap()).unwrap();
        assert_eq!((last.what, last.generation, last.at), (EventKind::Lagged, 1, 9.5));
        assert!(last.message.starts_with("3 events were missed; "), "{}", last.message);
        assert!(reader.is_none() && next(reader).await.is_none());
    }

    #[tokio::test]
    async fn every_event_is_one_line() {
        let events = broadcast::Sender::new(2);
        let reader = Some(reader_of(events.subscribe()));
        events.send(event(2)).unwrap();
        let (line, _) = next(reader).await.unwrap();
        let line = line.unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(serde_json::from_slice::<Event>(&line).unwrap(), *event(2));
    }
}
