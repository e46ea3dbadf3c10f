//! What every request passes before its handler: its place, which depends on the path, and the check of its `Host`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};

use super::places::{self, Places, Seat, Use};
use crate::control::model::ErrorBody;
use crate::control::{Code, ControlError};

/// How long a request waits for a place of its kind.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Pause between two attempts to get one.
const WAIT: Duration = Duration::from_millis(50);

/// The seat of the connection that a request came on.
#[derive(Clone)]
pub(super) struct Seated {
    pub places: Arc<Places>,
    pub seat: Arc<Seat>,
}

/// What a request does with its connection.
fn use_of(method: &Method, path: &str) -> Use {
    match path {
        "/healthz" | "/readyz" => Use::Probe,
        "/metrics" => Use::Scrape,
        "/api/v1/events" => Use::Events,
        _ if *method != Method::GET && *method != Method::HEAD => Use::Write,
        // Made as a whole, or as long as the connection table.
        "/api/v1/connections" | "/api/v1/statistics" | "/api/v1/config" => Use::Bulk,
        _ => Use::Query,
    }
}

/// Gives the request a place for as long as its answer takes.
pub(super) async fn seat(Extension(seated): Extension<Seated>, request: Request, next: Next) -> Response {
    let doing = use_of(request.method(), request.uri().path());
    let until = Instant::now() + WAIT_MAX;
    while !seated.places.begin(&seated.seat, doing, Instant::now()) {
        // The place of an event's reader is not free soon.
        if doing == Use::Events || Instant::now() >= until {
            let message = "too many such requests are being answered; try again later";
            return refusal(StatusCode::SERVICE_UNAVAILABLE, Code::Busy, message.to_owned());
        }
        tokio::time::sleep(WAIT).await;
    }
    let request_in_progress = places::Request(seated.seat);
    next.run(request).await.map(|body| Body::new(Seating { body, _request: request_in_progress }))
}

/// An answer in the form of the API's errors.
fn refusal(status: StatusCode, code: Code, message: String) -> Response {
    let error = ErrorBody { error: ControlError::new(code, message) };
    let body = serde_json::to_string(&error).unwrap_or_default() + "\n";
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The body of an answer; its place is free when it has ended.
struct Seating {
    body: Body,
    _request: places::Request,
}

impl HttpBody for Seating {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The names under which clients reach a daemon over TCP.
#[derive(Clone, Debug, Default)]
pub(crate) struct HttpNames(Arc<Vec<String>>);

impl HttpNames {
    /// `configured` in addition to the name of this host.
    pub(crate) fn new(configured: &[String]) -> HttpNames {
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let own = own.trim();
        let names = configured.iter().map(String::as_str).chain((!own.is_empty()).then_some(own));
        HttpNames(Arc::new(names.map(str::to_lowercase).collect()))
    }

    /// An address is right: a page of another site can make a browser send its own name only.
    fn contains(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        address.parse::<std::net::IpAddr>().is_ok() || host == "localhost" || self.0.contains(&host)
    }
}

/// Refuses a request for another host's name: a page in a browser whose own name was made to lead here (DNS rebinding)
/// could read the answer.
pub(super) async fn check_host(
    Extension(names): Extension<HttpNames>,
    request: Request,
    next: Next,
) -> Response {
    match host(request.uri(), request.headers()) {
        Ok(None) => next.run(request).await,
        Ok(Some(host)) if names.contains(&host) => next.run(request).await,
        Ok(Some(host)) => {
            let message = format!(
                "Host {host:?}: expected an address, localhost or the name of this host; add others to http_names"
            );
            refusal(StatusCode::MISDIRECTED_REQUEST, Code::BadRequest, message)
        }
        Err(message) => refusal(StatusCode::BAD_REQUEST, Code::BadRequest, message.to_owned()),
    }
}

/// The host that the request names, without its port. A browser always names one.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    // RFC 9112 §3.2.2: the request target takes precedence.
    if let Some(host) = uri.host() {
        return Ok(Some(host.to_owned()));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let Some(host) = hosts.next() else { return Ok(None) };
    let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    match authority {
        // RFC 9112 §3.2: the header has no user, and there is one of it.
        Some(authority) if hosts.next().is_none() && !authority.as_str().contains('@') => {
            Ok(Some(authority.host().to_owned()))
        }
        _ => Err("the header Host is not valid"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_commands_scrapes_and_streams_have_places_of_their_own() {
        let rows = [
            ("GET", "/readyz", Use::Probe),
            ("HEAD", "/healthz", Use::Probe),
            ("GET", "/metrics", Use::Scrape),
            ("GET", "/api/v1/events", Use::Events),
            ("GET", "/api/v1/connections", Use::Bulk),
            ("GET", "/api/v1/config", Use::Bulk),
            ("POST", "/api/v1/config", Use::Write),
            ("POST", "/api/v1/changes", Use::Write),
            ("GET", "/api/v1/status", Use::Query),
            ("GET", "/nothing", Use::Query),
            ("PUT", "/nothing", Use::Write),
        ];
        for (method, path, expected) in rows {
            assert_eq!(use_of(&method.parse().unwrap(), path), expected, "{method} {path}");
        }
    }

    fn is_allowed(uri: &str, hosts: &[&str]) -> Result<bool, &'static str> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().unwrap());
        }
        let names = HttpNames::new(&["Director1.example.com".to_owned()]);
        Ok(host(&uri.parse().unwrap(), &headers)?.is_none_or(|host| names.contains(&host)))
    }

    #[test]
    fn only_addresses_and_own_names_are_served() {
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let allowed = ["127.0.0.1:9690", "[::1]:9690", "10.0.0.1", "localhost", "LOCALHOST:1", own.trim()];
        for host in allowed.into_iter().chain(["director1.example.com:9690", "director1.EXAMPLE.com."]) {
            assert_eq!(is_allowed("/metrics", &[host]), Ok(true), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "director1", "x:80"]
        {
            assert_eq!(is_allowed("/metrics", &[host]), Ok(false), "{host}");
        }
        assert_eq!(is_allowed("/metrics", &[]), Ok(true), "HTTP/1.0");
        assert_eq!(is_allowed("http://evil.example/metrics", &["127.0.0.1"]), Ok(false));
        for hosts in [&["127.0.0.1", "evil.example"][..], &["evil@127.0.0.1"], &["a b"], &[""]] {
            assert!(is_allowed("/metrics", hosts).is_err(), "{hosts:?}");
        }
    }
}
