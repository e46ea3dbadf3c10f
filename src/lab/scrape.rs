//! Parses a daemon's `/metrics`, as far as tests and the demo need.

use serde::Serialize;

/// One line of the Prometheus text format.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// The name of the metric.
    pub name: String,
    /// Names and values of the labels.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.label(name) == Some(value))
    }
}

/// All samples of one answer, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scrape {
    samples: Vec<Sample>,
}

impl Scrape {
    /// Reads the text format; lines that are not samples are skipped, because other tools check the format.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Scrape { samples: lines.filter_map(parse_sample).collect() }
    }

    /// Every sample, in the order of the answer.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// All samples with this name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// The sum over all samples with this name and these labels; `None` if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.named(name).filter(|sample| sample.has(labels)).map(|sample| sample.value).reduce(|a, b| a + b)
    }
}

fn parse_sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.into(), labels, value })
}

/// `name="value",…}` with `\\`, `\"` and `\n` in values; returns what follows the brace.
fn parse_labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        rest = loop {
            match characters.next()? {
                (end, '"') => break &quoted[end + 1..],
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let scrape = Scrape::parse(
            "# HELP packets_total packets\n# TYPE packets_total counter\n\
             packets_total{to=\"server2\",by=\"a,}b\\\"c\"} 3\npackets_total{to=\"server3\"} 4\nup 1\n",
        );
        assert_eq!(scrape.sum("packets_total", &[]), Some(7.0));
        assert_eq!(scrape.sum("packets_total", &[("to", "server3")]), Some(4.0));
        assert_eq!(scrape.sum("packets_total", &[("to", "server4")]), None);
        assert_eq!(scrape.sum("up", &[]), Some(1.0));
        assert_eq!(scrape.samples()[0].label("by"), Some("a,}b\"c"));
    }

    #[test]
    fn a_line_that_is_not_a_sample_is_skipped() {
        for line in ["", "# comment", "name", "name{", "name{a=\"b} 1", "name{a=\"b\"}", "name x"] {
            assert_eq!(Scrape::parse(line), Scrape::default(), "{line:?}");
        }
    }
}
