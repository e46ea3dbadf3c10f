//! Paths of requests, as the checks send them.

/// A path whose blanks and control characters are percent-encoded (RFC 3986 §2.1), and whether it has any.
pub fn without_blanks(path: &str) -> (String, bool) {
    encoded(path, |c| c.is_whitespace() || c.is_control())
}

/// As the URI module of Perl writes it: what is neither reserved nor unreserved (RFC 2396 §2) is percent-encoded.
pub fn of_perl(path: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.!~*'();/?:@&=+$,[]%#".contains(c);
    encoded(path, |c| !is_plain(c)).0
}

fn encoded(path: &str, must: impl Fn(char) -> bool) -> (String, bool) {
    let mut text = String::with_capacity(path.len());
    for c in path.chars() {
        if must(c) {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
        } else {
            text.push(c);
        }
    }
    let is_changed = text != path;
    (text, is_changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_encoded_and_the_rest_stays() {
        assert_eq!(without_blanks("/a b\t?c=%20&d=é"), ("/a%20b%09?c=%20&d=é".to_owned(), true));
        assert_eq!(without_blanks("/a\u{a0}b").0, "/a%C2%A0b");
        assert_eq!(without_blanks("/a?b"), ("/a?b".to_owned(), false));
    }

    #[test]
    fn perl_encodes_what_no_uri_contains() {
        assert_eq!(
            of_perl("/a b|c<é>\"{}^`?d=1&e=[2]%2f"),
            "/a%20b%7Cc%3C%C3%A9%3E%22%7B%7D%5E%60?d=1&e=[2]%2f"
        );
    }
}
