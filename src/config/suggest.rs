//! Finds the known word nearest to a misspelt one.

/// The nearest candidate, if its edit distance is at most a third of the word's length.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// All known words are shorter than half of this, and the cost grows with the length.
    const WORD_MAX: usize = 64;
    if word.len() > WORD_MAX {
        return None;
    }
    let lower = word.to_lowercase();
    let word = lower.as_str();
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(edits, _)| *edits <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The edit distance (insert, delete, replace, swap neighbours) between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
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
}
