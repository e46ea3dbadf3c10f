//! `HTTP_GET` and `SSL_GET`: one check for each `url`.

use std::time::Duration;

use super::super::keywords::{self, Keywords, surplus_words};
use super::super::tree::Statement;
use super::super::value::{Wrong, first, flag};
use super::{Common, Scope};
use crate::convert::check::Check;
use crate::convert::draft::{Block, Value};
use crate::convert::{pattern, uri};
use crate::health::check::ANSWER_MAX;

/// Retries by default, and the time before them.
const RETRIES: (u32, Option<Duration>) = (1, Some(Duration::from_secs(3)));

/// What the checker sets for all of its urls.
struct Web<'a> {
    is_tls: bool,
    common: Common,
    version: &'static str,
    /// The line `enable_sni`, if it is on.
    enable_sni: Option<&'a Statement>,
    server_name: Option<String>,
    urls: Vec<&'a Statement>,
}

impl<'a> Keywords<'a> for Web<'a> {
    fn set(&mut self, statement: &'a Statement, block: &mut Block) -> Result<usize, Wrong> {
        let is_on = statement.keyword() != "enable_sni" || flag(statement)?;
        match statement.keyword() {
            "url" => {
                self.urls.push(statement);
                return Ok(0);
            }
            "http_protocol" => {
                self.version = match first(statement)? {
                    "1.0" | "1.0C" | "1.0c" => "1.0",
                    "1.1" => "1.1",
                    _ => return Err(format!("expected 1.0, 1.0C or 1.1; keepalived uses {}", self.version)),
                };
            }
            "enable_sni" | "sni_name" if !self.is_tls => {
                return Err("HTTP_GET has no TLS; only SSL_GET has".to_owned());
            }
            "enable_sni" => self.enable_sni = Some(statement).filter(|_| is_on),
            "sni_name" => self.server_name = Some(first(statement)?.to_owned()),
            "fast_recovery" => return Err("every url has its own check, with its own interval".to_owned()),
            "connect_timeout" => {
                let taken = self.common.set_common(statement, block)?;
                let reason = "it is for each step of the check; `timeout` is for all of them, twice as long";
                block.note(statement.remark(reason));
                return Ok(taken);
            }
            _ => return self.common.set_common(statement, block),
        }
        Ok(1)
    }
}

pub(super) fn read(statement: &Statement, scope: &Scope, block: &mut Block) -> Vec<Check> {
    let mut web = Web {
        is_tls: statement.keyword() == "SSL_GET",
        common: Common::default(),
        version: "1.0",
        enable_sni: None,
        server_name: None,
        urls: Vec::new(),
    };
    keywords::read(&mut web, statement.statements(), block);
    if web.urls.is_empty() {
        block.lose(statement.lost("it has no url, and checks nothing"));
    }
    let mut checks = Vec::new();
    for url in &web.urls {
        checks.extend(of_url(statement, url, &web, scope, block));
    }
    if !checks.is_empty() {
        web.common.report_unused("http", statement, block);
    }
    checks
}

fn of_url(
    statement: &Statement,
    url: &Statement,
    web: &Web,
    scope: &Scope,
    block: &mut Block,
) -> Option<Check> {
    let mut page = Page::default();
    keywords::read(&mut page, url.statements(), block);
    let Some(path) = page.path.clone() else {
        block.lose(url.lost("it has no path, and keepalived ignores it"));
        return None;
    };
    let kind = if web.is_tls { "https" } else { "http" };
    let mut check = match web.common.check(kind, url, scope, RETRIES) {
        Ok(check) => check,
        Err(reason) => {
            block.lose(statement.lost(reason));
            return None;
        }
    };
    // connect_timeout is for each step; this is for all of them.
    check.timeout *= 2;
    let host = page.host.clone().or_else(|| web.common.timing.or(&scope.timing).virtualhost());
    let (encoded, is_changed) = uri::without_blanks(&path);
    if is_changed {
        let reason =
            format!("keepalived sends `{path}` as it is; a path has no blanks, so this sends `{encoded}`");
        block.note(url.remark(reason));
    }
    let options = &mut check.options;
    options.push(("path", Value::text(encoded)));
    options.extend(host.as_ref().map(|host| ("host", Value::text(host))));
    options.push(("version", Value::text(web.version)));
    options.push(("status", Value::text(page.status.as_deref().unwrap_or("200-299"))));
    page.add_conditions(url, &mut check, block);
    if web.is_tls {
        check.options.push(("verify", Value::Flag(false)));
        let name = web.server_name.clone().or_else(|| host.filter(|_| web.enable_sni.is_some()));
        if let Some(line) = web.enable_sni.filter(|_| web.server_name.is_some() || name.is_none()) {
            let reason =
                if name.is_some() { "sni_name has the name" } else { "there is no virtualhost to name" };
            block.note(line.remark(reason));
        }
        check.options.extend(name.map(|name| ("server_name", Value::text(name))));
    }
    if path.contains('\u{fffd}') {
        check.stand_in("path: it is not UTF-8", block);
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
    /// The letters of `regex_options`.
    flags: String,
    is_inverted: bool,
    /// Why the expression is not used.
    unusable: Option<String>,
}

impl<'a> Keywords<'a> for Page {
    fn set(&mut self, statement: &'a Statement, block: &mut Block) -> Result<usize, Wrong> {
        match statement.keyword() {
            "path" => self.path = Some(first(statement)?.to_owned()),
            "virtualhost" => self.host = Some(first(statement)?.to_owned()),
            "digest" => {
                let digest = first(statement)?;
                let is_digest = digest.len() == 32 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
                self.digest = Some(digest).filter(|_| is_digest).map(str::to_lowercase);
                self.digest.as_ref().ok_or("expected 32 hexadecimal digits")?;
            }
            "status_code" => {
                let ranges: Option<Vec<String>> =
                    statement.words[1..].iter().map(|word| range(word)).collect();
                let ranges = ranges.filter(|ranges| !ranges.is_empty());
                let wrong = "expected codes and ranges with blanks between them; keepalived uses 200-299";
                self.status = Some(ranges.ok_or(wrong)?.join(","));
                return Ok(keywords::ALL);
            }
            "regex" => {
                let mut words = statement.command().into_iter();
                self.regex = Some(words.next().ok_or("a value is missing; keepalived ignores the line")?);
                surplus_words(statement, &words.collect::<Vec<_>>(), block);
                return Ok(keywords::ALL);
            }
            "regex_options" => {
                statement.words[1..].iter().for_each(|option| self.set_option(option, statement, block));
                return Ok(keywords::ALL);
            }
            "regex_no_match" => {
                self.is_inverted = true;
                return Ok(0);
            }
            "regex_min_offset" | "regex_max_offset" => {
                self.unusable = Some(format!("there is no {}", statement.keyword()));
                return Err("the body is searched from its beginning to its end".to_owned());
            }
            "regex_stack" => return Err("the matcher has no stack to set".to_owned()),
            _ => return Err("unknown here; keepalived ignores it".to_owned()),
        }
        Ok(1)
    }
}

impl Page {
    fn set_option(&mut self, option: &str, statement: &Statement, block: &mut Block) {
        match option {
            "caseless" => self.flags.push('i'),
            "multiline" => self.flags.push('m'),
            "dotall" => self.flags.push('s'),
            "extended" => self.flags.push('x'),
            "auto_callout" | "dupnames" | "never_backslash_c" | "never_ucp" | "never_utf"
            | "no_auto_possess" | "no_dotstar_anchor" | "no_start_optimize" | "ungreedy" => {
                block.note(statement.remark(format!("{option} does not change whether there is a match")));
            }
            _ => {
                block.lose(statement.remark(format!("there is no option for {option}")));
                self.unusable = Some(format!("there is no option for {option}"));
            }
        }
    }

    /// What the answer must be, apart from its status.
    fn add_conditions(self, url: &Statement, check: &mut Check, block: &mut Block) {
        if self.regex.is_some() && self.is_inverted {
            let reason = format!("only the first {} KiB of the body are searched", ANSWER_MAX >> 10);
            block.note(url.remark(reason));
        }
        check.options.extend(self.digest.map(|digest| ("body_md5", Value::text(digest))));
        let Some(regex) = self.regex else { return };
        let translated = match self.unusable {
            Some(reason) => Err(reason),
            None => pattern::translated(&regex, &self.flags),
        };
        match translated {
            Ok(regex) => {
                let name = if self.is_inverted { "body_not" } else { "body_regex" };
                check.options.push((name, Value::text(regex)));
            }
            Err(reason) => {
                let stand_in = "the check below makes the same request and does not search the body";
                block.lose(url.lost(format!("regex: {reason}; {stand_in}")));
            }
        }
    }
}

/// `200` or `200-299`.
fn range(word: &str) -> Option<String> {
    let code = |word: &str| word.parse::<u16>().ok().filter(|code| (100..=999).contains(code));
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    (code(first)? <= code(last)?).then(|| word.to_owned())
}
