//! What the values of keys look like, and what of a line ldirectord ignores.

/// The form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `"TEXT"`.
    Quoted,
    /// `"TEXT"`, or the rest of the line.
    MayBeQuoted,
    /// Letters, digits, `_` and `-`.
    Word,
    /// A number above 0, wherever it stands.
    Number,
    /// A number, or a word.
    NumberOrWord,
    /// `yes` or `no`.
    Flag,
    /// The rest of the line.
    Rest,
}

/// A value, and the words that ldirectord ignores.
pub(super) type Read = (String, String);

/// The value of a key.
///
/// # Errors
/// Why ldirectord refuses it.
pub(super) fn read(key: &str, value: &str, is_global: bool) -> Result<Read, &'static str> {
    let found = match shape(key, is_global) {
        Shape::Quoted => quoted(value).ok_or("expected a text in double quotes")?,
        Shape::MayBeQuoted => quoted(value).unwrap_or_else(|| (value.to_owned(), String::new())),
        Shape::Word => run(value, |c| c.is_ascii_alphanumeric() || c == '_' || c == '-'),
        Shape::Number => {
            let found = run(value, |c| c.is_ascii_digit());
            found.0.parse::<u32>().ok().filter(|number| *number > 0).ok_or("expected a number above 0")?;
            found
        }
        Shape::NumberOrWord => match run(value, |c| c.is_ascii_digit()) {
            (number, _) if number.is_empty() => {
                run(value, |c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
            }
            found => found,
        },
        Shape::Flag if ["yes", "no"].contains(&value) => (value.to_owned(), String::new()),
        Shape::Flag => return Err("expected yes or no"),
        Shape::Rest => (value.to_owned(), String::new()),
    };
    if found.0.is_empty() {
        return Err("a value is missing");
    }
    Ok(found)
}

fn shape(key: &str, is_global: bool) -> Shape {
    match key {
        "request" | "receive" | "login" | "passwd" | "database" | "secret" | "load" | "callback"
        | "logfile" => Shape::Quoted,
        // The shell that runs the command of the whole file sees its quotes.
        "fallbackcommand" if is_global => Shape::Rest,
        "checkcommand" | "fallbackcommand" | "virtualhost" | "monitorfile" | "emailalert" => {
            Shape::MayBeQuoted
        }
        "service" | "protocol" | "httpmethod" | "scheduler" => Shape::Word,
        "checktimeout" | "negotiatetimeout" | "checkinterval" | "checkcount" | "failurecount"
        | "checkport" | "persistent" => Shape::Number,
        "checktype" => Shape::NumberOrWord,
        "quiescent" | "readdquiescent" | "cleanstop" | "ops" | "autoreload" | "fork" | "supervised" => {
            Shape::Flag
        }
        _ => Shape::Rest,
    }
}

/// From the first quote, which begins the value, to the last.
fn quoted(value: &str) -> Option<Read> {
    let (inside, behind) = value.strip_prefix('"')?.rsplit_once('"')?;
    Some((inside.to_owned(), behind.trim().to_owned()))
}

/// The first characters of this kind, and what is around them.
fn run(value: &str, is_part: impl Fn(char) -> bool) -> Read {
    let start = value.find(&is_part).unwrap_or(value.len());
    let end = value[start..].find(|c| !is_part(c)).map_or(value.len(), |end| start + end);
    let around = format!("{} {}", &value[..start], &value[end..]);
    // ldirectord does not care about quotes around a word.
    let around = around.trim().trim_matches('"').trim();
    (value[start..end].to_owned(), around.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_far_as_ldirectord_reads_it() {
        let table = [
            ("request", r#""a b" c"#, Ok(("a b", "c"))),
            ("request", r#""a "b" c""#, Ok((r#"a "b" c"#, ""))),
            ("request", "a", Err("expected a text in double quotes")),
            ("request", "\"a", Err("expected a text in double quotes")),
            ("request", "\"\"", Err("a value is missing")),
            ("checkcommand", "/a b", Ok(("/a b", ""))),
            ("checkcommand", "\"/a b\" c", Ok(("/a b", "c"))),
            ("service", "http x", Ok(("http", "x"))),
            ("service", "\"http\"", Ok(("http", ""))),
            ("checktimeout", "5s # x", Ok(("5", "s # x"))),
            ("checktimeout", "x5", Ok(("5", "x"))),
            ("checktimeout", "0", Err("expected a number above 0")),
            ("checktimeout", "99999999999", Err("expected a number above 0")),
            ("checktype", "connect", Ok(("connect", ""))),
            ("checktype", "external-perl x", Ok(("external-perl", "x"))),
            ("checktype", "connect 3", Ok(("3", "connect"))),
            ("checktype", "0", Ok(("0", ""))),
            ("quiescent", "maybe", Err("expected yes or no")),
            ("quiescent", "yes x", Err("expected yes or no")),
            ("quiescent", "no", Ok(("no", ""))),
            ("comment", "", Err("a value is missing")),
            ("comment", "a \"b\"", Ok(("a \"b\"", ""))),
        ];
        for (key, value, expected) in table {
            let expected = expected.map(|(value, rest)| (value.to_owned(), rest.to_owned()));
            assert_eq!(read(key, value, false), expected, "{key} = {value}");
        }
        let global = read("fallbackcommand", "\"/a b\" c", true);
        assert_eq!(global, Ok(("\"/a b\" c".to_owned(), String::new())));
    }
}
