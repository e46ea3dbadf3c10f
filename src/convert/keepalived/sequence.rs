//! `~SEQ(var, start, step, end) REST` and `~LST(var, a, b) REST`: lines that repeat (keepalived.conf(5)).

use super::line::is_name;

/// The values of the variables for one repetition.
pub(super) type Values = Vec<(String, String)>;

/// One repetition after the other, and what is repeated.
pub(super) struct Sequence<'a> {
    pub(super) repetitions: Box<dyn Iterator<Item = Values> + 'a>,
    pub(super) rest: &'a str,
}

/// Reads the beginning of a line; `None` if it is no sequence.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(line: &str) -> Option<Result<Sequence<'_>, &'static str>> {
    let (name, behind) = line.strip_prefix('~')?.split_once('(')?;
    let (arguments, rest) = match name {
        "SEQ" | "SEQx" | "LST" => arguments(behind)?,
        _ => return None,
    };
    let repetitions = if name == "LST" { list(&arguments) } else { numbers(&arguments, name == "SEQx") };
    Some(repetitions.map(|repetitions| Sequence { repetitions, rest: rest.trim() }))
}

/// The arguments up to the closing parenthesis, and what follows it. A group in braces is one argument.
fn arguments(text: &str) -> Option<(Vec<&str>, &str)> {
    let (mut arguments, mut start, mut depth) = (Vec::new(), 0, 0_u32);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' | ')' if depth == 0 => {
                arguments.push(text[start..at].trim());
                start = at + 1;
                if c == ')' {
                    return Some((arguments, &text[start..]));
                }
            }
            _ => {}
        }
    }
    None
}

type Repetitions<'a> = Result<Box<dyn Iterator<Item = Values> + 'a>, &'static str>;

/// The step may be omitted, and the start, too.
fn numbers<'a>(arguments: &[&str], is_hexadecimal: bool) -> Repetitions<'a> {
    const WRONG: &str = "expected ~SEQ(NAME, START, STEP, END)";
    let (name, numbers) = arguments.split_first().ok_or(WRONG)?;
    let numbers: Vec<i64> = numbers.iter().map(|word| number(word)).collect::<Option<_>>().ok_or(WRONG)?;
    let (start, step, end) = match numbers.as_slice() {
        [end] => (if *end < 0 { -1 } else { 1 }, if *end < 0 { -1 } else { 1 }, *end),
        [start, end] => (*start, if end < start { -1 } else { 1 }, *end),
        [start, step, end] => (*start, *step, *end),
        _ => return Err(WRONG),
    };
    if !is_name(name) {
        return Err(WRONG);
    }
    if step == 0 || (step > 0) != (end >= start) && start != end {
        return Err("the sequence never reaches its end");
    }
    let name = (*name).to_owned();
    let values = std::iter::successors(Some(start), move |value| value.checked_add(step))
        .take_while(move |value| if step > 0 { *value <= end } else { *value >= end });
    Ok(Box::new(values.map(move |value| {
        let text = if is_hexadecimal { format!("{value:x}") } else { value.to_string() };
        vec![(name.clone(), text)]
    })))
}

fn number(word: &str) -> Option<i64> {
    let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
    let value = match digits.strip_prefix("0x") {
        Some(digits) => i64::from(u32::from_str_radix(digits, 16).ok()?),
        None => i64::from(digits.parse::<u32>().ok()?),
    };
    Some(sign * value)
}

fn list<'a>(arguments: &[&str]) -> Repetitions<'a> {
    const WRONG: &str = "expected ~LST(NAME, VALUE, VALUE)";
    let (names, values) = arguments.split_first().ok_or(WRONG)?;
    let group = |text: &str| -> Vec<String> {
        let inside = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        inside.map_or_else(
            || vec![text.to_owned()],
            |inside| inside.split(',').map(|part| part.trim().to_owned()).collect(),
        )
    };
    let names = group(names);
    let rows: Vec<Values> =
        values.iter().map(|row| names.iter().cloned().zip(group(row)).collect()).collect();
    if names.iter().any(|name| !is_name(name)) || rows.iter().any(|row| row.len() < names.len()) {
        return Err(WRONG);
    }
    Ok(Box::new(rows.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(line: &str) -> Result<Vec<String>, &'static str> {
        let sequence = parse(line).expect("a sequence")?;
        let row = |row: Values| row.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        Ok(sequence.repetitions.take(5).map(|values| row(values).join(" ")).collect())
    }

    #[test]
    fn step_and_start_may_be_absent() {
        assert_eq!(values("~SEQ(i, 3) x"), Ok(vec!["i=1".into(), "i=2".into(), "i=3".into()]));
        assert_eq!(values("~SEQ(i, -2) x"), Ok(vec!["i=-1".into(), "i=-2".into()]));
        assert_eq!(values("~SEQ(i,5,4) x"), Ok(vec!["i=5".into(), "i=4".into()]));
        assert_eq!(values("~SEQ(i, 1, 3, 8) x"), Ok(vec!["i=1".into(), "i=4".into(), "i=7".into()]));
        assert_eq!(values("~SEQx(i, 0xe, 16) x"), Ok(vec!["i=e".into(), "i=f".into(), "i=10".into()]));
        assert_eq!(values("~SEQ(i, 7, 7) x"), Ok(vec!["i=7".into()]));
    }

    #[test]
    fn a_list_may_have_several_variables() {
        assert_eq!(values("~LST(v, a, b) x"), Ok(vec!["v=a".into(), "v=b".into()]));
        assert_eq!(values("~LST({v,w}, {a, 1}, {b,2}) x"), Ok(vec!["v=a w=1".into(), "v=b w=2".into()]));
        assert_eq!(parse("~LST(v, a)  x {").unwrap().ok().map(|found| found.rest), Some("x {"));
    }

    #[test]
    fn what_is_wrong_is_reported() {
        for line in ["~SEQ() x", "~SEQ(i) x", "~SEQ(i, a) x", "~SEQ(9, 1) x", "~SEQ(i, 1, 2, 3, 4) x"] {
            assert!(values(line).is_err(), "{line}");
        }
        assert!(values("~SEQ(i, 1, 0, 3) x").is_err());
        assert!(values("~SEQ(i, 1, -1, 3) x").is_err());
        assert!(values("~LST({v,w}, {a}) x").is_err());
        assert!(parse("~SEQ(i, 1").is_none());
        assert!(parse("SEQ(i, 1) x").is_none());
        assert!(parse("~FOO(i, 1) x").is_none());
    }
}
