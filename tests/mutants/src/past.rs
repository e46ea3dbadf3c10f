//! What the last measurement of each file has missed, for `--again`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::mutate::Mutant;
use crate::run::Outcome;

/// By file, the changes that were missed.
pub struct Past(BTreeMap<String, Vec<String>>);

impl Past {
    /// Nothing, if there was no run.
    pub fn read(path: &Path) -> Past {
        let mut past: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in fs::read_to_string(path).unwrap_or_default().lines() {
            match line.split_once(" | ") {
                Some((file, _)) => past.entry(file.to_string()).or_default().push(line.to_string()),
                None => drop(past.entry(line.to_string()).or_default()),
            }
        }
        Past(past)
    }

    /// Of the files that were measured, only the changes that were missed.
    pub fn missed_of<'a>(&self, mutants: Vec<&'a Mutant>) -> Vec<&'a Mutant> {
        let is_open =
            |mutant: &&Mutant| self.0.get(&mutant.file).is_none_or(|keys| keys.contains(&mutant.key()));
        mutants.into_iter().filter(is_open).collect()
    }

    /// Keeps what this run has missed of its files.
    pub fn take(&mut self, results: &[(&Mutant, Outcome)]) {
        for (mutant, outcome) in results {
            let missed = self.0.entry(mutant.file.clone()).or_default();
            missed.retain(|key| *key != mutant.key());
            if !outcome.is_caught() {
                missed.push(mutant.key());
            }
        }
    }

    /// One line for each file, and one for each change.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let lines = self.0.iter().flat_map(|(file, keys)| std::iter::once(file).chain(keys));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}
