//! Connections and persistence templates: filtered, in pages, or as a stream of any length.
//!
//! A listing goes through the tables part by part; copying a part takes microseconds, and no lock is held
//! while the client reads. A connection that begins or ends in the meantime may or may not be listed; one
//! that lasts is listed exactly once.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use ipnet::IpNet;
use serde::Deserialize;

use super::refusals::Searching;
use super::{Api, CHUNK, Refusal, json, json_lines};
use crate::control::model::{Connection, Connections, EntryKind};
use crate::control::{Code, ControlError};
use crate::director::cluster::Cluster;
use crate::director::real_server::{RealServer, Slot};
use crate::director::{connection, persistence};
use crate::serve::interface::RunningDirector;

const PAGE_DEFAULT: usize = 1_000;
const PAGE_MAX: usize = 10_000;

/// Which connections, and how.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only connections of this virtual service, by name.
    virtual_service: Option<String>,
    /// Only connections on this real server, by RIP or name.
    real_server: Option<String>,
    /// Only connections of this client, or of all clients with this prefix.
    #[param(min_length = 1, format = "address-or-prefix")]
    client: Option<String>,
    /// Connections per page.
    #[param(minimum = 1, maximum = 10_000, default = 1000)]
    limit: Option<usize>,
    /// The cursor of the previous page.
    #[param(pattern = "^[0-9]{1,9}-[0-9]{1,9}$")]
    cursor: Option<String>,
    /// Sends all connections, one JSON line each, instead of a page; the same as `Accept:
    /// application/x-ndjson`.
    stream: Option<bool>,
}

/// Connections and persistence templates.
#[utoipa::path(
    get,
    path = "/api/v1/connections",
    params(Wanted),
    responses(
        (status = 200, description = "A page of connections, or one connection per line.", content(
            (Connections = "application/json"),
            (Connection = "application/x-ndjson")
        )),
        Searching
    )
)]
pub(super) async fn connections(
    State(api): State<Api>,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Refusal> {
    let bad = |message: String| ControlError::new(Code::BadRequest, message);
    let Query(wanted) = wanted.map_err(|error| bad(error.body_text()))?;
    let filter = Filter::of(&wanted, &*api.director)?;
    let accepts_lines = || {
        let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
        accepted.is_some_and(|accepted| accepted.contains("application/x-ndjson"))
    };
    let listing = Listing { director: api.director, filter, part: 0 };
    if wanted.stream.unwrap_or_else(accepts_lines) {
        return Ok(json_lines(Body::from_stream(futures_util::stream::unfold(listing, Listing::chunk))));
    }
    let limit = wanted.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(bad(format!("limit={limit}: expected 1 to {PAGE_MAX}")).into());
    }
    let cursor = wanted.cursor.as_deref().map(Cursor::read).transpose()?.unwrap_or_default();
    Ok(json(&listing.page(cursor, limit)))
}

/// Where a page begins: a part, and how many entries of it were shown.
#[derive(Clone, Copy, Default)]
struct Cursor {
    part: usize,
    shown: usize,
}

impl Cursor {
    fn read(written: &str) -> Result<Cursor, ControlError> {
        let read = || {
            let (part, shown) = written.split_once('-')?;
            Some(Cursor { part: part.parse().ok()?, shown: shown.parse().ok()? })
        };
        let message = "cursor: send the cursor of the previous page unchanged";
        read().ok_or_else(|| ControlError::new(Code::BadRequest, message))
    }
}

/// The filter by slots: names are looked up once.
struct Filter {
    virtual_service: Option<u16>,
    real_servers: Option<HashSet<Slot>>,
    client: Option<IpNet>,
}

impl Filter {
    fn of(wanted: &Wanted, director: &dyn RunningDirector) -> Result<Filter, ControlError> {
        let published = director.published();
        let cluster = &published.cluster;
        let service = |name: &String| {
            let found = cluster.virtual_services().find(|service| service.config.name == *name);
            let message = || format!("there is no virtual service {name:?}");
            found.map(|found| found.slot).ok_or_else(|| ControlError::new(Code::NoSuchService, message()))
        };
        let virtual_service = wanted.virtual_service.as_ref().map(service).transpose()?;
        let servers = |word: &String| {
            let rip = word.parse::<IpAddr>().ok();
            let is_meant = |server: &&Arc<RealServer>| {
                rip.map_or(server.config.name == *word, |rip| server.config.rip == rip)
            };
            let found: HashSet<Slot> =
                cluster.real_servers().filter(is_meant).map(|server| server.slot).collect();
            let message = || format!("no virtual service has a real server {word:?}");
            if found.is_empty() {
                Err(ControlError::new(Code::NoSuchRealServer, message()))
            } else {
                Ok(found)
            }
        };
        let real_servers = wanted.real_server.as_ref().map(servers).transpose()?;
        let client = |word: &String| {
            let prefix = word.parse::<IpNet>().or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
            let message = || format!("client={word}: expected an address or a prefix");
            prefix.map_err(|_| ControlError::new(Code::BadRequest, message()))
        };
        let client = wanted.client.as_ref().map(client).transpose()?;
        Ok(Filter { virtual_service, real_servers, client })
    }

    fn accepts(&self, virtual_service: u16, real_server: Slot, client: IpAddr) -> bool {
        self.virtual_service.is_none_or(|wanted| wanted == virtual_service)
            && self.real_servers.as_ref().is_none_or(|wanted| wanted.contains(&real_server))
            && self.client.is_none_or(|wanted| wanted.contains(&client))
    }
}

struct Listing {
    director: Arc<dyn RunningDirector>,
    filter: Filter,
    /// The next part of the connections or, after them, of the templates.
    part: usize,
}

impl Listing {
    fn parts(&self) -> usize {
        self.director.tables().connections.parts() + self.director.tables().templates.parts()
    }

    fn part(&self, part: usize) -> Vec<Connection> {
        let (tables, now) = (self.director.tables(), self.director.now());
        let published = self.director.published();
        let cluster = &published.cluster;
        match part.checked_sub(tables.connections.parts()) {
            None => {
                let found = tables.connections.part(part, now).into_iter();
                let found =
                    found.filter(|c| self.filter.accepts(c.virtual_service, c.real_server, c.flow.client));
                found.filter_map(|connection| of_connection(connection, cluster)).collect()
            }
            Some(part) => {
                let found = tables.templates.part(part, now).into_iter();
                let found = found.filter(|listed| {
                    self.filter.accepts(listed.key.virtual_service, listed.real_server, listed.key.client)
                });
                found.filter_map(|listed| of_template(&listed, cluster)).collect()
            }
        }
    }

    fn page(&self, cursor: Cursor, limit: usize) -> Connections {
        let mut connections = Vec::new();
        let mut skipped = cursor.shown;
        for part in cursor.part..self.parts() {
            let found = self.part(part);
            let room = limit - connections.len();
            let rest = found.len().saturating_sub(skipped);
            connections.extend(found.into_iter().skip(skipped).take(room));
            if rest > room {
                let cursor = Some(format!("{part}-{}", skipped + room));
                return Connections { connections, cursor };
            }
            skipped = 0;
        }
        Connections { connections, cursor: None }
    }

    /// The next lines, enough for a chunk; `None` at the end.
    async fn chunk(mut self) -> Option<(std::io::Result<Bytes>, Listing)> {
        let mut lines = Vec::with_capacity(CHUNK + CHUNK / 4);
        // Lets other tasks of this thread run.
        tokio::task::yield_now().await;
        while lines.len() < CHUNK && self.part < self.parts() {
            for connection in self.part(self.part) {
                if let Err(error) = serde_json::to_writer(&mut lines, &connection) {
                    return Some((Err(error.into()), self));
                }
                lines.push(b'\n');
            }
            self.part += 1;
        }
        (!lines.is_empty()).then(|| (Ok(lines.into()), self))
    }
}

fn of_connection(found: connection::Connection, cluster: &Cluster) -> Option<Connection> {
    let flow = found.flow;
    let real_server = cluster.real_server(found.real_server);
    Some(Connection {
        kind: EntryKind::Connection,
        protocol: protocol(flow.protocol)?,
        client: flow.client,
        client_port: flow.client_port,
        vip: flow.vip,
        vip_port: flow.vip_port,
        virtual_service: cluster.virtual_service(found.virtual_service).map(|s| s.config.name.clone()),
        real_server: real_server.map(|server| server.config.name.clone()),
        rip: real_server.map(|server| server.config.rip),
        state: found.state.name().to_owned(),
        expires_in: found.expires_in.as_secs(),
    })
}

/// A template belongs to a virtual service; one whose service was removed cannot be shown, and no packet
/// finds it.
fn of_template(found: &persistence::Listed, cluster: &Cluster) -> Option<Connection> {
    let service = cluster.virtual_service(found.key.virtual_service)?;
    let matcher = service.config.matchers.first()?;
    let real_server = cluster.real_server(found.real_server);
    Some(Connection {
        kind: EntryKind::Template,
        protocol: matcher.protocol.into(),
        client: found.key.client,
        client_port: 0,
        vip: matcher.vip,
        vip_port: if matcher.ports.is_one() { matcher.ports.first } else { 0 },
        virtual_service: Some(service.config.name.clone()),
        real_server: real_server.map(|server| server.config.name.clone()),
        rip: real_server.map(|server| server.config.rip),
        state: connection::State::None.name().to_owned(),
        expires_in: found.expires_in.as_secs(),
    })
}

fn protocol(number: u8) -> Option<crate::control::model::Protocol> {
    use crate::packet::Protocol;
    [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| p.number() == number).map(Into::into)
}
