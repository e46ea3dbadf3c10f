//! `HTTP_GET` and `SSL_GET`: one check for each `url`.

use std::time::Duration;

use super::super::timing::{effective, surplus};
use super::super::tree::Statement;
use super::super::value::{Wrong, flag};
use super::{Common, Scope};
use crate::convert::check::Check;
use crate::convert::draft::{Block, Value};

/// Retries by default, and the time before them.
const RETRIES: (u32, Option<Duration>) = (1, Some(Duration::from_secs(3)));

/// What the checker sets for all of its urls.
struct Web {
    common: Common,
    version: &'static str,
    has_server_name: bool,
    server_name: Option<String>,
}

pub(super) fn read(statement: &Statement, scope: &Scope, block: &mut Block) -> Vec<Check> {
    let mut web = Web { common: Common::new(), version: "1.0", has_server_name: false, server_name: None };
    let mut urls = Vec::new();
    for inner in effective(statement.statements(), &[], block) {
        match (inner.keyword(), inner.argument(1)) {
            ("url", _) => urls.push(inner),
            ("nb_get_retry", _) => {
                let words = inner.words.iter().skip(1).cloned();
                let words = std::iter::once("retry".to_owned()).chain(words).collect();
                web.common.read(&Statement { words, ..inner.clone() }, block);
            }
            ("http_protocol", Some("1.0" | "1.0C" | "1.0c")) => web.version = "1.0",
            ("http_protocol", Some("1.1")) => web.version = "1.1",
            ("http_protocol", _) => {
                block.lose(inner.remark("expected 1.0, 1.0C or 1.1; keepalived uses 1.0"))
            }
            ("enable_sni", _) => match flag(inner) {
                Ok(is_set) => web.has_server_name = is_set,
                Err(reason) => block.lose(inner.remark(reason)),
            },
            ("sni_name", Some(name)) => web.server_name = Some(name.to_owned()),
            ("fast_recovery", _) => {
                block.lose(inner.remark("every url has its own check, with its own interval"))
            }
            ("connect_timeout", _) => {
                web.common.read(inner, block);
                let reason = "it is for each step of the check; `timeout` is for all of them, twice as long";
                block.note(inner.remark(reason));
            }
            _ => web.common.read(inner, block),
        }
    }
    if urls.is_empty() {
        block.lose(statement.remark("it has no url, and checks nothing"));
    }
    urls.iter().flat_map(|url| of_url(statement, url, &web, scope, block)).collect()
}

fn of_url(
    statement: &Statement,
    url: &Statement,
    web: &Web,
    scope: &Scope,
    block: &mut Block,
) -> Option<Check> {
    surplus(url, 0, block);
    let is_tls = statement.keyword() == "SSL_GET";
    let mut page = Page::default();
    for inner in effective(url.statements(), &[], block) {
        if let Err(reason) = page.read(inner) {
            block.lose(inner.lost(reason));
        }
    }
    let Some(path) = page.path else {
        block.lose(url.remark("it has no path, and keepalived ignores it"));
        return None;
    };
    let kind = if is_tls { "https" } else { "http" };
    let mut check = match web.common.check(kind, scope, RETRIES) {
        Ok(check) => check,
        Err(reason) => {
            block.lose(statement.remark(reason));
            return None;
        }
    };
    // connect_timeout is for each step; this is for all of them.
    check.timeout *= 2;
    let host = page.host.or_else(|| web.common.timing.or(&scope.timing).virtualhost);
    let status = page.status.unwrap_or_else(|| "200-299".to_owned());
    let options = &mut check.options;
    options.push(("path", Value::text(path)));
    options.extend(host.as_ref().map(|host| ("host", Value::text(host))));
    options.push(("version", Value::text(web.version)));
    options.push(("status", Value::text(status)));
    options.extend(page.digest.map(|digest| ("body_md5", Value::text(digest))));
    let name = if page.is_inverted { "body_not" } else { "body_regex" };
    options.extend(page.regex.map(|regex| (name, Value::text(format!("{}{regex}", page.flags)))));
    if is_tls {
        options.push(("verify", Value::Flag(false)));
        let name =
            web.server_name.clone().or(host).filter(|_| web.has_server_name || web.server_name.is_some());
        options.extend(name.map(|name| ("server_name", Value::text(name))));
    }
    Some(check)
}

/// The keywords of a `url`.
#[derive(Default)]
struct Page {
    path: Option<String>,
    host: Option<String>,
    status: Option<String>,
    digest: Option<String>,
    regex: Option<String>,
    flags: String,
    is_inverted: bool,
}

impl Page {
    fn read(&mut self, statement: &Statement) -> Result<(), Wrong> {
        let value = statement.argument(1).map(str::to_owned);
        let missing = || "a value is missing; keepalived ignores the line".to_owned();
        match statement.keyword() {
            "path" => self.path = Some(value.ok_or_else(missing)?),
            "virtualhost" => self.host = Some(value.ok_or_else(missing)?),
            "digest" => {
                let digest = value
                    .filter(|digest| digest.len() == 32 && digest.bytes().all(|b| b.is_ascii_hexdigit()));
                self.digest = Some(digest.ok_or("expected 32 hexadecimal digits")?.to_lowercase());
            }
            "status_code" => {
                let ranges: Option<Vec<String>> =
                    statement.words[1..].iter().map(|word| range(word)).collect();
                let ranges = ranges.filter(|ranges| !ranges.is_empty());
                let wrong = "expected codes and ranges with blanks between them; keepalived uses 200-299";
                self.status = Some(ranges.ok_or(wrong)?.join(","));
            }
            "regex" => self.regex = Some(statement.command().into_iter().next().ok_or_else(missing)?),
            "regex_options" => {
                for option in &statement.words[1..] {
                    self.flags.push_str(match option.as_str() {
                        "caseless" => "(?i)",
                        "multiline" => "(?m)",
                        "dotall" => "(?s)",
                        "extended" => "(?x)",
                        _ => return Err(format!("there is no option for {option}")),
                    });
                }
            }
            "regex_no_match" => self.is_inverted = true,
            "regex_min_offset" | "regex_max_offset" | "regex_stack" => {
                return Err(
                    "the body can only be checked for a match, from its beginning to its end".to_owned()
                );
            }
            _ => return Err("unknown here; keepalived ignores it".to_owned()),
        }
        Ok(())
    }
}

/// `200` or `200-299`.
fn range(word: &str) -> Option<String> {
    let code = |word: &str| word.parse::<u16>().ok().filter(|code| (100..=999).contains(code));
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    (code(first)? <= code(last)?).then(|| word.to_owned())
}
