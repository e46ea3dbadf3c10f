//! The committed lists: which files, the tests, what counts as equivalent, and the scores.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::tree::read;

/// `files.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Test binaries that need neither privileges nor the network; `lib` is the library's own.
    pub tests: Vec<String>,
    /// Of these, the ones that can notice a change, by the beginning of the file's name; all where none fits.
    #[serde(default)]
    pub only: BTreeMap<String, Vec<String>>,
    /// Least score of each file, in percent.
    pub floor: BTreeMap<String, f64>,
}

impl Files {
    /// The binaries that can notice a change in these files.
    pub fn tests_of(&self, files: &[String]) -> Vec<String> {
        let of = |file: &String| -> &[String] {
            let fitting = self.only.iter().filter(|(beginning, _)| file.starts_with(*beginning));
            fitting.max_by_key(|(beginning, _)| beginning.len()).map_or(&self.tests, |(_, tests)| tests)
        };
        let needed: BTreeSet<&String> = files.iter().flat_map(of).collect();
        self.tests.iter().filter(|test| needed.contains(test)).cloned().collect()
    }
}

/// `equivalent.toml`: changes that no test can distinguish from the original, by reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Equivalents {
    #[serde(default)]
    pub equivalent: Vec<Equivalent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Equivalent {
    pub file: String,
    pub function: String,
    pub changes: Vec<String>,
    pub reason: String,
}

/// `scores.toml`, written by `--save`.
#[derive(Default, Deserialize, Serialize)]
pub struct Scores {
    #[serde(default)]
    pub files: BTreeMap<String, Score>,
}

#[derive(Clone, Deserialize, Serialize)]
pub struct Score {
    /// Percent of the changes that a test catches, without those in `equivalent.toml`.
    pub score: f64,
    pub mutants: usize,
    pub equivalent: usize,
    pub missed: usize,
    /// Of the file's text when it was measured.
    pub text: String,
}

pub struct Lists {
    folder: PathBuf,
    pub files: Files,
    pub equivalents: Equivalents,
    pub scores: Scores,
    /// Changes that do not compile.
    pub unviable: BTreeSet<String>,
    /// Functions that must stay `const`.
    pub constant: BTreeSet<String>,
}

impl Lists {
    pub fn read(folder: &Path) -> Result<Lists, String> {
        let files: Files = parse(&folder.join("files.toml"))?;
        if let Some(test) = files.only.values().flatten().find(|test| !files.tests.contains(test)) {
            return Err(format!("files.toml: {test} is not in the list of tests"));
        }
        let equivalents: Equivalents = parse(&folder.join("equivalent.toml"))?;
        if let Some(row) = equivalents.equivalent.iter().find(|row| row.reason.trim().is_empty()) {
            return Err(format!("equivalent.toml: a row of {} gives no reason", row.file));
        }
        let scores = match folder.join("scores.toml") {
            path if path.exists() => parse(&path)?,
            _ => Scores::default(),
        };
        let (mut unviable, mut constant) = (BTreeSet::new(), BTreeSet::new());
        let path = folder.join("unviable.txt");
        if path.exists() {
            for line in read(&path)?.lines() {
                match line.strip_prefix("const ") {
                    Some(name) => constant.insert(name.to_string()),
                    None => unviable.insert(line.to_string()),
                };
            }
        }
        Ok(Lists { folder: folder.to_path_buf(), files, equivalents, scores, unviable, constant })
    }

    pub fn is_equivalent(&self, key: &str) -> bool {
        self.equivalents.equivalent.iter().any(|row| {
            row.changes.iter().any(|change| format!("{} | {} | {change}", row.file, row.function) == key)
        })
    }

    /// Keys of all rows.
    pub fn equivalent_keys(&self) -> impl Iterator<Item = String> {
        self.equivalents.equivalent.iter().flat_map(|row| {
            row.changes.iter().map(|change| format!("{} | {} | {change}", row.file, row.function))
        })
    }

    pub fn save_scores(&self) -> Result<(), String> {
        let text = toml::to_string(&self.scores).map_err(|error| error.to_string())?;
        self.save("scores.toml", &format!("# Written by `tests/mutants/run --save`.\n\n{text}"))
    }

    pub fn save_unviable(&self) -> Result<(), String> {
        let constant = self.constant.iter().map(|name| format!("const {name}"));
        let lines: Vec<String> = constant.chain(self.unviable.iter().cloned()).collect();
        self.save("unviable.txt", &(lines.join("\n") + "\n"))
    }

    fn save(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

fn parse<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, String> {
    toml::from_str(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

/// FNV-1a, 64 bits: enough to see that a file has changed.
pub fn digest(text: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}
