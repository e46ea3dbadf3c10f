//! Where a redirect leads (RFC 9110 §15.4, RFC 3986 §5.2). A probe stays at its target: only another path of the same
//! origin is requested.

/// Whether a client follows an answer with this status to the place in Location.
pub(super) fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// The path and query that a Location names, if it was answered to a request for `path`; `None`: it leads to another origin.
/// `is_here` decides for a scheme and an authority.
pub(super) fn path_of(
    location: &str,
    path: &str,
    is_here: impl Fn(Option<&str>, &str) -> bool,
) -> Option<String> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, rest) = match location.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, location),
    };
    let target = match rest.strip_prefix("//") {
        Some(rest) => {
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            if !is_here(scheme, authority) {
                return None;
            }
            if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") }
        }
        None if scheme.is_some() => return None,
        None => merged(rest, path),
    };
    let (path, query) = parts(&target);
    Some(encoded(&format!("{}{query}", without_dots(path))))
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    let is_of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(is_of_scheme)
}

/// The path, and the query with its question mark.
fn parts(target: &str) -> (&str, &str) {
    target.split_at(target.find('?').unwrap_or(target.len()))
}

/// A reference without an authority, relative to the path and query of the request.
fn merged(reference: &str, path: &str) -> String {
    let (base, query) = parts(path);
    match reference.chars().next() {
        None => format!("{base}{query}"),
        Some('?') => format!("{base}{reference}"),
        Some('/') => reference.to_owned(),
        Some(_) => {
            let directory = base.rfind('/').map_or("/", |last| &base[..=last]);
            format!("{directory}{reference}")
        }
    }
}

/// RFC 3986 §5.2.4.
fn without_dots(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let mut kept: Vec<&str> = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let is_last = index + 1 == segments.len();
        match *segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
        if is_last && matches!(*segment, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

/// What may not stand in a request line, as RFC 3986 §2.1 has it.
fn encoded(target: &str) -> String {
    let mut text = String::new();
    for byte in target.bytes() {
        match byte.is_ascii_graphic() {
            true => text.push(byte.into()),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Whether both are the same host and port; a port that is absent is the scheme's.
pub(super) fn is_same_authority(one: &str, other: &str, default_port: u16) -> bool {
    let split = |authority: &str| {
        let end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match authority[end..].find(':') {
            Some(colon) => (&authority[..end + colon], &authority[end + colon + 1..]),
            None => (authority, ""),
        };
        let port = if port.is_empty() { Some(default_port) } else { port.parse().ok() };
        port.map(|port| (host.to_ascii_lowercase(), port))
    };
    split(one).is_some_and(|one| split(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_resolved_against_the_path_of_the_request() {
        for (location, path, expected) in [
            ("/x", "/a/b", "/x"),
            ("/x?y=1#z", "/a", "/x?y=1"),
            ("x", "/a/b?c", "/a/x"),
            ("x", "*", "/x"),
            ("?y", "/a/b?c", "/a/b?y"),
            ("#z", "/a/b?c", "/a/b?c"),
            ("", "/a/b?c", "/a/b?c"),
            ("./x", "/a/b", "/a/x"),
            ("../x", "/a/b", "/x"),
            ("../../../x", "/a/b", "/x"),
            (".", "/a/b", "/a/"),
            ("..", "/a/b/c", "/a/"),
            ("/a/./b/../c", "/", "/a/c"),
            ("/a//b/", "/", "/a//b/"),
            ("/x?y=../z", "/", "/x?y=../z"),
            ("/a:b", "/", "/a:b"),
            ("1:b", "/", "/1:b"),
            ("x/y:z", "/", "/x/y:z"),
            ("/a b/\u{e9}\t", "/", "/a%20b/%C3%A9%09"),
            ("http://here/x", "/a", "/x"),
            ("http://here", "/a", "/"),
            ("http://here?q", "/a", "/?q"),
            ("http://here#f", "/a", "/"),
            ("HTTP://here/../x", "/a", "/x"),
            ("//here/x", "/a", "/x"),
        ] {
            let is_here = |scheme: Option<&str>, authority: &str| {
                scheme.is_none_or(|scheme| scheme.eq_ignore_ascii_case("http")) && authority == "here"
            };
            assert_eq!(path_of(location, path, is_here).as_deref(), Some(expected), "{location} at {path}");
        }
    }

    #[test]
    fn a_location_of_another_origin_has_no_path() {
        let is_here = |scheme: Option<&str>, authority: &str| scheme != Some("https") && authority == "here";
        for location in [
            "https://here/x",
            "http://there/x",
            "//there/x",
            "//",
            "http:x",
            "http:/x",
            "mailto:a@here",
            "x:",
        ] {
            assert_eq!(path_of(location, "/a", is_here), None, "{location}");
        }
    }

    #[test]
    fn authorities_are_compared_without_case_and_with_the_port_of_the_scheme() {
        for (one, other, expected) in [
            ("a", "A", true),
            ("a", "a:80", true),
            ("a:", "a", true),
            ("a:80", "a:080", true),
            ("a:81", "a", false),
            ("a", "b", false),
            ("u@a", "a", false),
            ("a:x", "a:x", false),
            ("[2001:db8::1]", "[2001:DB8::1]:80", true),
            ("[2001:db8::1]:81", "[2001:db8::1]", false),
        ] {
            assert_eq!(is_same_authority(one, other, 80), expected, "{one} {other}");
            assert_eq!(is_same_authority(other, one, 80), expected, "{other} {one}");
        }
    }

    #[test]
    fn only_redirects_to_another_place_are_followed() {
        let followed: Vec<u16> = (100..=999).filter(|status| is_redirect(*status)).collect();
        assert_eq!(followed, [301, 302, 303, 307, 308]);
    }
}
