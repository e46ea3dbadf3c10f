//! The requests of a check.

use std::collections::BTreeMap;

use super::redirect::{is_same_authority, path_of};
use crate::health::check::Target;
use crate::health::check::options::{table, text, texts};
use crate::health::spec::{BadOption, Options};

/// A request without what depends on the target.
#[derive(Clone, Debug)]
pub(super) struct Request {
    method: String,
    pub(super) path: String,
    version: String,
    host: Option<String>,
    default_port: u16,
    fields: BTreeMap<String, String>,
}

/// Reads the options of requests: one request for each path.
pub(super) fn read(options: &Options, is_tls: bool) -> Result<Vec<Request>, BadOption> {
    let method = text(options, "method").unwrap_or("GET");
    if !is_token(method) || method == "CONNECT" {
        return Err(("method", format!("{method:?} is no method of a check")));
    }
    let host = text(options, "host");
    if let Some(host) =
        host.filter(|host| host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        return Err(("host", format!("{host:?} is no name of a host")));
    }
    let fields = table(options, "headers");
    for (name, value) in &fields {
        let is_value = value.chars().all(|c| !c.is_control() || c == '\t');
        if !is_token(name) || !is_value {
            return Err(("headers", format!("{name:?} = {value:?} is no header field")));
        }
    }
    let (name, paths) = match (texts(options, "paths"), text(options, "path")) {
        ([], path) => ("path", vec![path.unwrap_or("/")]),
        (_, Some(_)) => return Err(("paths", "path is given too; put it into this list".to_owned())),
        (paths, None) => ("paths", paths.iter().map(String::as_str).collect()),
    };
    let request = |path: &str| {
        let is_path = path.starts_with('/') || (path, method) == ("*", "OPTIONS");
        if !is_path || path.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err((name, format!("{path:?} is no path: it begins with / and contains no spaces")));
        }
        Ok(Request {
            method: method.to_owned(),
            path: path.to_owned(),
            version: text(options, "version").unwrap_or("1.1").to_owned(),
            host: host.map(str::to_owned),
            default_port: if is_tls { 443 } else { 80 },
            fields: fields.clone(),
        })
    };
    paths.into_iter().map(request).collect()
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token)
}

impl Request {
    /// Whether the answer has no body.
    pub(super) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// The request that follows a redirect with this status; `None` if it would go to another origin.
    pub(super) fn redirected(&self, status: u16, location: &str, target: &Target) -> Option<Request> {
        let scheme = if self.default_port == 443 { "https" } else { "http" };
        let port = target.port;
        let own = [self.host_field(target), format!("{}:{port}", host_of(target))];
        let is_here = |given: Option<&str>, authority: &str| {
            given.is_none_or(|given| given.eq_ignore_ascii_case(scheme))
                && own.iter().any(|own| is_same_authority(own, authority, self.default_port))
        };
        let path = path_of(location, &self.path, is_here)?;
        // RFC 9110 §15.4.2 to §15.4.4: 303 leads to a result that is requested with GET, and clients treat 301 and 302 after POST alike.
        let is_get = status == 303 && !self.is_head() || matches!(status, 301 | 302) && self.method == "POST";
        let method = if is_get { "GET".to_owned() } else { self.method.clone() };
        Some(Request { method, path, ..self.clone() })
    }

    /// The bytes to send.
    pub(super) fn written(&self, target: &Target) -> Vec<u8> {
        let mut fields = vec![("Host", self.host(target)), ("User-Agent", "lvs-tund".to_owned())];
        fields.push(("Accept", "*/*".to_owned()));
        if self.version == "1.1" {
            fields.push(("Connection", "close".to_owned()));
        }
        // RFC 9110 §8.6: a request whose method usually has content states that it has none.
        if matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") {
            fields.push(("Content-Length", "0".to_owned()));
        }
        let is_replaced = |name: &str| self.fields.keys().any(|given| given.eq_ignore_ascii_case(name));
        fields.retain(|(name, _)| !is_replaced(name));
        fields.extend(self.fields.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{} {} HTTP/{}\r\n{lines}\r\n", self.method, self.path, self.version).into_bytes()
    }

    /// The value of the header field Host as it is sent.
    fn host_field(&self, target: &Target) -> String {
        let given = self.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("Host"));
        given.map_or_else(|| self.host(target), |(_, value)| value.clone())
    }

    fn host(&self, target: &Target) -> String {
        if let Some(host) = &self.host {
            return host.clone();
        }
        let address = host_of(target);
        if target.port == self.default_port { address } else { format!("{address}:{}", target.port) }
    }
}

/// The address as a host in a URI: RFC 3986 §3.2.2 has an IPv6 address in brackets.
fn host_of(target: &Target) -> String {
    if target.address.is_ipv6() { format!("[{}]", target.address) } else { target.address.to_string() }
}
