//! Finds the known word nearest to a misspelt one.

use std::cmp::Reverse;

/// The nearest candidate, if its edit distance is at most a third of the word's length; of equally near ones, the one that
/// is as long and begins like the word.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// All known words are shorter than half of this, and the cost grows with the length.
    const WORD_MAX: usize = 64;
    if word.len() > WORD_MAX {
        return None;
    }
    let lower = word.to_lowercase();
    let word = lower.as_str();
    let count = word.chars().count();
    let limit = (count / 3).max(1);
    let near = |candidate: &'a str| {
        let cost = distance(word, candidate);
        let length = candidate.chars().count().abs_diff(count);
        (cost.edits <= limit).then(|| (cost, length, Reverse(common_prefix(word, candidate)), candidate))
    };
    candidates.into_iter().filter_map(near).min().map(|(.., candidate)| candidate)
}

/// What turns one word into another. A letter that is missing, doubled or swapped is a likelier slip than another letter:
/// with as many edits, the word with fewer replaced letters is nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    edits: usize,
    replaced: usize,
}

impl Cost {
    fn of(edits: usize) -> Cost {
        Cost { edits, replaced: 0 }
    }

    fn and(self, edits: usize, replaced: usize) -> Cost {
        Cost { edits: self.edits + edits, replaced: self.replaced + replaced }
    }
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}

/// The least cost (insert, delete, replace, swap neighbours) between two words.
fn distance(a: &str, b: &str) -> Cost {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).map(Cost::of).collect::<Vec<Cost>>()];
    for i in 1..=a.len() {
        let mut row = vec![Cost::of(i); b.len() + 1];
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            let replaced = rows[i - 1][j - 1].and(differs, differs);
            row[j] = replaced.min(rows[i - 1][j].and(1, 0)).min(row[j - 1].and(1, 0));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2].and(1, 0));
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_finds_its_neighbour_and_nonsense_finds_none() {
        let words = ["weight", "name", "rip", "path_mtu"];
        assert_eq!(nearest("wieght", words), Some("weight"));
        assert_eq!(nearest("ip", words), Some("rip"));
        assert_eq!(nearest("path-mtu", words), Some("path_mtu"));
        assert_eq!(nearest("WEIGHT", words), Some("weight"));
        assert_eq!(nearest("persistence", words), None);
        assert_eq!(nearest(&"weight".repeat(1 << 20), words), None);
    }
    #[test]
    fn of_words_with_as_many_edits_the_likelier_one_is_found() {
        let kinds = crate::health::CHECKS.iter().map(|row| row.name);
        for (written, meant) in [
            ("htp", "http"),
            ("htpp", "http"),
            ("htttp", "http"),
            ("htps", "https"),
            ("htpps", "https"),
            ("httsp", "https"),
            ("tpc", "tcp"),
            ("tc", "tcp"),
            ("tcpp", "tcp"),
            ("gprc", "grpc"),
            ("redi", "redis"),
            ("postgre", "postgres"),
            ("mysq", "mysql"),
            ("msyql", "mysql"),
            ("stmp", "smtp"),
            ("imp", "imap"),
            ("icpm", "icmp"),
            ("dsn", "dns"),
            ("fpt", "ftp"),
            ("exce", "exec"),
            ("memcache", "memcached"),
            ("pop", "pop3"),
        ] {
            assert_eq!(nearest(written, kinds.clone()), Some(meant), "{written}");
        }
    }

    #[test]
    fn the_distance_counts_each_kind_of_edit_once() {
        for (a, b, edits, replaced) in [
            ("", "", 0, 0),
            ("", "ab", 2, 0),
            ("ab", "", 2, 0),
            ("abc", "abc", 0, 0),
            ("abc", "acb", 1, 0),
            ("abc", "axc", 1, 1),
            ("abc", "xyz", 3, 3),
            ("abcd", "bcde", 2, 0),
            ("htp", "ftp", 1, 1),
        ] {
            assert_eq!(distance(a, b), Cost { edits, replaced }, "{a} {b}");
            assert_eq!(distance(b, a), Cost { edits, replaced }, "{b} {a}");
        }
    }
}
