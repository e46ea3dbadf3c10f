//! What patterns match.

use super::*;

/// As `health::check` builds them.
fn built(pattern: &str, options: &str) -> regex::bytes::Regex {
    let text = translated(pattern, options).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let build = |is_unicode| regex::bytes::RegexBuilder::new(&text).unicode(is_unicode).build();
    build(false).or_else(|_| build(true)).unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

#[test]
fn a_pattern_of_plain_text_stays_as_it_is() {
    for text in
        ["OK", "it works!", "a|b", "(ab)+c?", r"v1\.2", "a-b #1 & ~", "état", r"\(x\)", "[a-z]x", "a{2,3}"]
    {
        assert_eq!(translated(text, "").as_deref(), Ok(text));
    }
}

/// Pattern, options, a text that matches, one that does not; as perl and pcre2test have it.
#[test]
fn a_pattern_matches_what_it_matches_for_its_own_program() {
    let table: &[(&str, &str, &[u8], &[u8])] = &[
        ("^OK$", "", b"OK", b"x\nOK"),
        ("^OK$", "", b"OK\n", b"OK\r\n"),
        ("^OK$", "", b"OK", b"OK\n\n"),
        ("^OK$", "m", b"x\nOK\ny", b"x\nOK\r\ny"),
        ("a.b", "", b"a\rb", b"a\nb"),
        ("a.b", "", b"a\xffb", "aéb".as_bytes()),
        ("a.b", "s", b"a\nb", b"ab"),
        ("(?s)a.b", "", b"a\nb", b"ab"),
        ("(?s:a.)b.c", "", b"a\nb\rc", b"a\nb\nc"),
        ("((?s)a.)b.c", "", b"a\nb\rc", b"a\nb\nc"),
        ("(?m)^x$", "", b"a\nx\nb", b"ax"),
        ("(?m:^x$)|^y$", "", b"a\nx\nb", b"a\ny\nb"),
        ("(?-m)^x$", "m", b"x", b"a\nx"),
        (r"\bK\b", "i", b"k", "\u{212a}".as_bytes()),
        ("É", "i", "É".as_bytes(), "é".as_bytes()),
        (r"\w\d\s", "", b"a1 ", "é٣\u{a0}".as_bytes()),
        ("a b # c\n d", "x", b"abd", b"a b"),
        ("a[ #]b", "x", b"a#b", b"ab"),
        ("(?x)a b", "", b"ab", b"a b"),
        (r"\<a\>", "", b"<a>", b"a"),
        ("[[a]", "", b"[", b"b"),
        ("[]a]", "", b"]", b"b"),
        ("[^]a]", "", b"b", b"]"),
        ("[a&&b]", "", b"&", b"c"),
        ("[a-]", "", b"-", b"b"),
        (r"[\w-z]", "", b"-", b"%"),
        ("[[:digit:]x]", "", b"7", b"a"),
        ("[^[:digit:]]", "", b"\xff", b"7"),
        (r"[\n\x41-\x43\]]", "", b"B", b"D"),
        (r"[\b\h\v]", "", b"\x08", b"b"),
        ("[é]", "", b"\xa9", b"e"),
        ("é+$", "", b"\xc3\xa9\xa9", b"\xc3\xa9\xc3"),
        ("a{", "", b"a{", b"a"),
        ("a{,2}", "", b"a{,2}", b"aa"),
        ("a{2,}?b", "", b"aab", b"ab"),
        ("}]", "", b"}]", b"}"),
        (r"a\Rb", "", b"a\r\nb", b"a\r\rb"),
        (r"a\Nb", "", b"a\rb", b"a\nb"),
        (r"a\hb\Hc\v\V", "", b"a\tbxc\nd", b"a\nbxc\nd"),
        (r"\x41\x{42}\103\cA\e\0", "", b"ABC\x01\x1b\0", b"ABC"),
        (r"\x4\.", "", b"\x04.", b"\x04a"),
        (r"\Aab\Z", "", b"ab\n", b"cab"),
        (r"\Aab\z", "", b"ab", b"ab\n"),
        ("(?<n>a)(?P<m>b)(?'o'c)", "", b"abc", b"ab"),
        ("a(?#comment)b", "", b"ab", b"a"),
        ("(?i)a(?-i)b", "", b"Ab", b"aB"),
        ("(?^:A)b", "i", b"AB", b"ab"),
        (r"\xff", "", b"\xff", "ÿ".as_bytes()),
    ];
    for (pattern, options, good, bad) in table {
        let regex = built(pattern, options);
        assert!(regex.is_match(good), "{pattern} {options}: {good:?}, as {regex}");
        assert!(!regex.is_match(bad), "{pattern} {options}: {bad:?}, as {regex}");
    }
}

#[test]
fn a_pattern_without_an_equal_is_refused() {
    let table = [
        ("(?=a)", "look-around"),
        ("(?<!a)b", "look-around"),
        ("(?<=a)b", "look-around"),
        ("(?>a)", "a group (?>…)"),
        ("(?|a)", "a group (?|…)"),
        ("(?R)", "a group (?R…)"),
        ("(?l)a", "a group (?…)"),
        ("(*FAIL)", "a verb"),
        (r"(a)\1", "back-reference"),
        (r"\G", r"\G has no equal"),
        (r"\p{Lu}", r"\p has no equal"),
        (r"[\8]", r"\8 has no equal"),
        (r"\x{100}", "more than a byte"),
        ("a++", "possessive"),
        ("a{2}{3}", "second quantifier"),
        ("a$b", "$ stands before"),
        (r"a\Zb", "$ stands before"),
        ("[a", "a class has no end"),
        ("[z-a]", "ends before it begins"),
        (r"[a-\d]", "a range to a class"),
        ("[[.a.]]", "collating"),
        ("(a", "has no end"),
        ("a)", "has no beginning"),
        ("a\\", "last character"),
        (r"\c", "without a letter"),
        ("a\u{fffd}", "not UTF-8"),
    ];
    for (pattern, expected) in table {
        let error = translated(pattern, "").expect_err(pattern);
        assert!(error.contains(expected), "{pattern}: {error}");
    }
}
