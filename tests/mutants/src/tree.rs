//! A copy of the repository in which every change is compiled in behind its switch.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::mutate::{self, Mutant, Terms};
use crate::source::Source;

const SWITCH: &str = include_str!("../switch.rs");
/// Where the copy has it.
const SWITCH_FILE: &str = "src/mutant.rs";
const LIB: &str = "src/lib.rs";

pub struct Tree {
    pub root: PathBuf,
    repository: PathBuf,
    files: Vec<String>,
}

/// One binary of tests.
#[derive(Clone, Debug)]
pub struct TestBinary {
    pub name: String,
    pub path: PathBuf,
}

impl Tree {
    /// Copies what cargo needs to build the tests. Files that have not changed since the last run stay as they are, so
    /// that cargo builds only what depends on a change.
    pub fn lay(repository: &Path, root: PathBuf, files: Vec<String>) -> io::Result<Tree> {
        fs::create_dir_all(&root)?;
        let listed = Command::new("git")
            .arg("ls-files")
            .arg("-co")
            .arg("--exclude-standard")
            .current_dir(repository)
            .output()?;
        let mut kept = BTreeSet::new();
        for name in String::from_utf8_lossy(&listed.stdout).lines() {
            let (from, to) = (repository.join(name), root.join(name));
            if name.starts_with("tests/mutants/") || !from.is_file() {
                continue;
            }
            let is_written_later = name == LIB || files.iter().any(|file| file == name);
            if !is_written_later && fs::read(&to).ok() != Some(fs::read(&from)?) {
                fs::create_dir_all(to.parent().unwrap_or(&root))?;
                fs::copy(from, &to)?;
            }
            kept.insert(to);
        }
        kept.insert(root.join(SWITCH_FILE));
        remove_others(&root, &kept)?;
        Ok(Tree { root, repository: repository.to_path_buf(), files })
    }

    /// The files that are changed.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Reads the enums of the whole crate.
    pub fn learn(&self, terms: &mut Terms) -> Result<(), String> {
        let mut open = vec![self.repository.join("src")];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                let entries = fs::read_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                open.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = read(&path)?;
                let name = path.strip_prefix(&self.repository).unwrap_or(&path).display().to_string();
                terms.learn(
                    &name,
                    &syn::parse_file(&text).map_err(|error| format!("{}: {error}", path.display()))?,
                );
            }
        }
        Ok(())
    }

    /// Writes the changed files.
    pub fn mutate(&self, terms: &Terms) -> Result<Vec<Mutant>, String> {
        let mut mutants = Vec::new();
        for file in &self.files {
            let source = Source::new(read(&self.repository.join(file))?);
            let first = mutants.len() as u32 + 1;
            let found =
                mutate::mutate(&source, file, first, terms).map_err(|error| format!("{file}: {error}"))?;
            mutants.extend(found);
            write(&self.root.join(file), &source.render())?;
        }
        write(&self.root.join(SWITCH_FILE), SWITCH)?;
        let lib = read(&self.repository.join(LIB))?;
        let quiet = "#![allow(warnings, arithmetic_overflow, unconditional_panic)]\n";
        write(&self.root.join(LIB), &format!("{quiet}{lib}\npub mod mutant;\n"))?;
        Ok(mutants)
    }

    /// Changes that do not compile, and functions that have to stay `const`.
    ///
    /// # Errors
    /// The output of cargo, where no change is to blame.
    pub fn refused(&self, mutants: &[Mutant], terms: &mut Terms) -> Result<Vec<Mutant>, String> {
        let messages = self.cargo(&["check", "--quiet", "--lib", "--message-format=json"])?;
        let errors: Vec<&Value> = messages
            .iter()
            .filter_map(|message| message.get("message"))
            .filter(|message| {
                message["level"] == "error" && message["spans"].as_array().is_some_and(|s| !s.is_empty())
            })
            .collect();
        let mut ids = BTreeSet::new();
        for error in &errors {
            if error["code"]["code"] == "E0015" {
                let said = error["message"].as_str().unwrap_or_default();
                // "crate::options::joined::<7>" names `joined`.
                let path = said.split('`').nth(1).map(|path| path.split("::<").next().unwrap_or(path));
                if let Some(name) = path.and_then(|path| path.rsplit("::").next()) {
                    terms.constant.insert(name.to_string());
                    continue;
                }
            }
            let found = self.blamed(error)?;
            if found.is_empty() {
                return Err(format!("no change explains: {}", error["rendered"].as_str().unwrap_or("?")));
            }
            ids.extend(found);
        }
        if ids.is_empty() && !errors.is_empty() {
            return Ok(Vec::new());
        }
        Ok(mutants.iter().filter(|mutant| ids.contains(&mutant.id)).cloned().collect())
    }

    /// The changes at whose marks an error points: those that hold a span of it, else those that a span holds.
    fn blamed(&self, error: &Value) -> Result<BTreeSet<u32>, String> {
        let mut ids = BTreeSet::new();
        let mut spans: Vec<&Value> = error["spans"].as_array().into_iter().flatten().collect();
        for child in error["children"].as_array().into_iter().flatten() {
            spans.extend(child["spans"].as_array().into_iter().flatten());
        }
        let mut held = BTreeSet::new();
        for span in spans {
            let Some(file) = span["file_name"].as_str() else { continue };
            let Ok(text) = fs::read_to_string(self.root.join(file)) else { continue };
            let bounds = |key: &str| span[key].as_u64().unwrap_or_default() as usize;
            let (start, end) = (bounds("byte_start"), bounds("byte_end"));
            let marks = marks(&text);
            let holding = marks.iter().filter(|(_, from, to)| *from <= start && end <= *to);
            ids.extend(holding.min_by_key(|(_, from, to)| to - from).map(|(id, ..)| *id));
            held.extend(
                marks.iter().filter(|(_, from, to)| start <= *from && *to <= end).map(|(id, ..)| *id),
            );
        }
        Ok(if ids.is_empty() { held } else { ids })
    }

    /// Builds the named binaries of tests; `lib` is the library's own.
    pub fn build(&self, tests: &[String]) -> Result<Vec<TestBinary>, String> {
        let mut arguments = vec!["test", "--quiet", "--no-run", "--message-format=json"];
        for test in tests {
            match test.as_str() {
                "lib" => arguments.push("--lib"),
                name => arguments.extend(["--test", name]),
            }
        }
        let messages = self.cargo(&arguments)?;
        let mut binaries = Vec::new();
        for message in &messages {
            let error = message.get("message").filter(|message| message["level"] == "error");
            if let Some(said) = error.and_then(|error| error["rendered"].as_str()) {
                return Err(said.to_string());
            }
            let (Some(path), true) = (message["executable"].as_str(), message["profile"]["test"] == true)
            else {
                continue;
            };
            let is_lib = message["target"]["kind"][0] == "lib";
            let name = if is_lib { "lib" } else { message["target"]["name"].as_str().unwrap_or("?") };
            binaries.push(TestBinary { name: name.to_string(), path: PathBuf::from(path) });
        }
        Ok(binaries)
    }

    fn cargo(&self, arguments: &[&str]) -> Result<Vec<Value>, String> {
        let output = Command::new("cargo")
            .args(arguments)
            .arg("--target-dir")
            .arg(self.repository.join("target"))
            .current_dir(&self.root)
            .env("CARGO_INCREMENTAL", "0")
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        Ok(String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }
}

/// Ids with the bytes between their marks.
fn marks(text: &str) -> Vec<(u32, usize, usize)> {
    let (mut open, mut closed, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some(found) = text[at..].find("/*") {
        let start = at + found + 2;
        let Some(length) = text[start..].find("*/") else { break };
        let mark = &text[start..start + length];
        at = start + length + 2;
        if let Some(id) = mark.strip_prefix('<').and_then(|id| id.parse::<u32>().ok()) {
            open.push((id, at));
        } else if let Some(id) = mark.strip_suffix('>').and_then(|id| id.parse::<u32>().ok())
            && let Some(place) = open.iter().rposition(|(other, _)| *other == id)
        {
            let (id, from) = open.remove(place);
            closed.push((id, from, start - 2));
        }
    }
    closed
}

pub fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Removes the files of an earlier run that the repository no longer has.
fn remove_others(folder: &Path, kept: &BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() && !path.is_symlink() {
            true => remove_others(&path, kept)?,
            false if !kept.contains(&path) => fs::remove_file(&path)?,
            false => {}
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    // Untouched where nothing changes, so that cargo does not build it again.
    if fs::read_to_string(path).is_ok_and(|now| now == text) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
