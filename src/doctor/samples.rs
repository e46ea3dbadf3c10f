//! A daemon's metrics, read from its exposition.

/// The samples of one scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples(Vec<Sample>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sample {
    name: String,
    /// As written: `reason="unknown_peer"`.
    labels: String,
    value: u64,
}

impl Samples {
    /// From the text format of Prometheus. Lines without a whole number are skipped: no item judges a fraction.
    pub fn parse(text: &str) -> Samples {
        Samples(text.lines().filter_map(Sample::parse).collect())
    }

    /// The sum over all series of this name with all of these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.of(name).filter(|sample| labels.iter().all(|label| sample.has(*label))).map(|s| s.value).sum()
    }

    /// The values of `label` in the series of this name that are not 0, with the sum of each.
    pub fn by(&self, name: &str, label: &str) -> Vec<(String, u64)> {
        let mut found: Vec<(String, u64)> = Vec::new();
        for sample in self.of(name).filter(|sample| sample.value > 0) {
            let Some(value) = sample.label(label) else { continue };
            match found.iter_mut().find(|(known, _)| *known == value) {
                Some((_, sum)) => *sum += sample.value,
                None => found.push((value, sample.value)),
            }
        }
        found
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Sample> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let value = value.parse().ok()?;
        let labels = labels.trim_end_matches('}').to_owned();
        Some(Sample { name: name.to_owned(), labels, value })
    }

    fn has(&self, (label, value): (&str, &str)) -> bool {
        self.label(label).is_some_and(|found| found == value)
    }

    /// No label of this program contains a quotation mark.
    fn label(&self, label: &str) -> Option<String> {
        let mut rest = self.labels.as_str();
        while let Some((name, behind)) = rest.split_once("=\"") {
            let (value, behind) = behind.split_once('"')?;
            if name.trim_start_matches(',') == label {
                return Some(value.to_owned());
            }
            rest = behind;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP dropped Packets.\n# TYPE dropped counter\n\
dropped{reason=\"unknown_peer\"} 3\ndropped{reason=\"no_service\",kind=\"a=b\"} 2\n\
dropped{kind=\"x\",reason=\"no_service\"} 4\ndropped{reason=\"idle\"} 0\nmss_bytes 1440\nodd NaN\n";

    #[test]
    fn series_are_found_by_name_and_labels() {
        let samples = Samples::parse(TEXT);
        assert_eq!(samples.sum("dropped", &[]), 9);
        assert_eq!(samples.sum("dropped", &[("reason", "no_service")]), 6);
        assert_eq!(samples.sum("dropped", &[("reason", "no_service"), ("kind", "a=b")]), 2);
        assert_eq!(samples.sum("dropped", &[("kind", "no_service")]), 0);
        assert_eq!((samples.sum("mss_bytes", &[]), samples.sum("mss", &[])), (1440, 0));
    }

    #[test]
    fn values_of_a_label_are_summed_and_zero_is_left_away() {
        let samples = Samples::parse(TEXT);
        let expected = vec![("unknown_peer".to_owned(), 3), ("no_service".to_owned(), 6)];
        assert_eq!(samples.by("dropped", "reason"), expected);
        assert_eq!(samples.by("mss_bytes", "reason"), []);
    }
}
