//! Patterns of file names, as `include` has them: `*`, `?`, `[a-z]`, and `{a,b}` as csh(1) expands it.

/// The most patterns that braces make.
const PATTERNS_MAX: usize = 1_000;

/// The patterns without braces.
pub fn braces(pattern: &str) -> Vec<String> {
    let (mut open, mut done) = (vec![pattern.to_owned()], Vec::new());
    while let Some(pattern) = open.pop() {
        match group(&pattern) {
            Some((start, end)) if open.len() + done.len() < PATTERNS_MAX => {
                let inside = &pattern[start + 1..end];
                let one = |part: &str| format!("{}{part}{}", &pattern[..start], &pattern[end + 1..]);
                open.extend(parts(inside).into_iter().rev().map(one));
            }
            _ => done.push(pattern),
        }
    }
    done
}

/// The first group of braces with a comma: the places of its braces.
fn group(pattern: &str) -> Option<(usize, usize)> {
    let start = pattern.find('{')?;
    let mut depth = 0_usize;
    for (at, c) in pattern[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((start, start + at)).filter(|_| at > 1);
        }
    }
    None
}

fn parts(inside: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inside[start..]);
    parts
}

/// Whether a part of a path needs a look into its directory.
pub fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

/// Whether a name matches a pattern without braces. A name that begins with a dot matches only a pattern that does.
pub fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where the last `*` is, and how much of the name it took.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        let step = pattern.get(p).and_then(|c| match c {
            '*' => None,
            '?' => Some(1),
            '[' => class(&pattern[p..], name[n]),
            c => (*c == name[n]).then_some(1),
        });
        if pattern.get(p) == Some(&'*') {
            star = Some((p, n));
            p += 1;
        } else if let Some(step) = step {
            p += step;
            n += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, n) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The length of a class such as `[a-z]`, if it contains the character.
fn class(pattern: &[char], c: char) -> Option<usize> {
    let is_inverted = matches!(pattern.get(1), Some('!' | '^'));
    let start = if is_inverted { 2 } else { 1 };
    let end = pattern.iter().skip(start + 1).position(|c| *c == ']').map(|at| at + start + 1);
    let Some(end) = end else { return (c == '[').then_some(1) };
    let (mut at, mut is_inside) = (start, false);
    while at < end {
        if pattern.get(at + 1) == Some(&'-') && at + 2 < end {
            is_inside |= (pattern[at]..=pattern[at + 2]).contains(&c);
            at += 3;
        } else {
            is_inside |= pattern[at] == c;
            at += 1;
        }
    }
    (is_inside != is_inverted).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_make_several_patterns() {
        assert_eq!(braces("a{b,c}d"), ["abd", "acd"]);
        assert_eq!(braces("{a,b}{1,2}"), ["a1", "a2", "b1", "b2"]);
        assert_eq!(braces("{a,{b,c}}"), ["a", "b", "c"]);
        assert_eq!(braces("a{"), ["a{"]);
        assert_eq!(braces("a{}"), ["a{}"]);
        assert!(braces(&"{a,b}".repeat(40)).len() <= 2 * PATTERNS_MAX);
    }

    #[test]
    fn stars_marks_and_classes() {
        let yes = [
            ("*.conf", "a.conf"),
            ("a?c", "abc"),
            ("[a-c]x", "bx"),
            ("[!a]x", "bx"),
            ("*", "x"),
            ("a*b*c", "aXbYbc"),
            (".*", ".x"),
            ("[", "["),
            ("é?", "éü"),
        ];
        for (pattern, name) in yes {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        let no = [
            ("*.conf", "a.cfg"),
            ("*", ".hidden"),
            ("a?c", "ac"),
            ("[a-c]x", "dx"),
            ("[!a]x", "ax"),
            ("a", "ab"),
            ("ab", "a"),
        ];
        for (pattern, name) in no {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
