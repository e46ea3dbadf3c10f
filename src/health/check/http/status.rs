//! Status codes that are expected: "200", "200-299", "200, 301-399", or a list of such texts.

use std::ops::RangeInclusive;

/// Ranges of status codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StatusCodes {
    ranges: Vec<RangeInclusive<u16>>,
}

impl StatusCodes {
    /// Reads ranges, separated by commas or spaces.
    pub(super) fn read(texts: &[String]) -> Result<StatusCodes, String> {
        let words =
            texts.iter().flat_map(|text| text.split([',', ' ', '\t'])).filter(|word| !word.is_empty());
        let ranges = words.map(range).collect::<Result<Vec<_>, _>>()?;
        if ranges.is_empty() { Err("no status code".to_owned()) } else { Ok(StatusCodes { ranges }) }
    }

    /// Whether this one is expected.
    pub(super) fn contain(&self, status: u16) -> bool {
        self.ranges.iter().any(|range| range.contains(&status))
    }

    /// For the eye.
    pub(super) fn shown(&self) -> String {
        let show = |range: &RangeInclusive<u16>| match range.start() == range.end() {
            true => range.start().to_string(),
            false => format!("{}-{}", range.start(), range.end()),
        };
        self.ranges.iter().map(show).collect::<Vec<_>>().join(", ")
    }
}

fn range(word: &str) -> Result<RangeInclusive<u16>, String> {
    let code = |digits: &str| digits.parse().ok().filter(|code| digits.len() == 3 && *code >= 100);
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("{word:?} is no status code and no range such as 200-299")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<StatusCodes, String> {
        StatusCodes::read(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn codes_are_lists_of_numbers_and_ranges() {
        for (texts, shown, inside, outside) in [
            (&["200-299"][..], "200-299", &[200, 299][..], &[199, 300][..]),
            (&["200, 301-399"], "200, 301-399", &[200, 301, 399], &[201, 300, 400]),
            (&["200 404"], "200, 404", &[200, 404], &[201, 403]),
            (&["200", "503,"], "200, 503", &[200, 503], &[500]),
            (&["999"], "999", &[999], &[100]),
            (&["100-199"], "100-199", &[100, 199], &[200]),
        ] {
            let codes = read(texts).expect("status codes");
            assert_eq!(codes.shown(), shown);
            assert!(inside.iter().all(|code| codes.contain(*code)), "{texts:?}");
            assert!(!outside.iter().any(|code| codes.contain(*code)), "{texts:?}");
        }
    }

    #[test]
    fn other_words_are_refused() {
        for text in ["2xx", "20", "2000", "099", "200-", "-200", "299-200", "+20", "200-299-300"] {
            assert_eq!(
                read(&[text]),
                Err(format!("{text:?} is no status code and no range such as 200-299"))
            );
        }
        assert_eq!(read(&[" , "]), Err("no status code".to_owned()));
    }
}
