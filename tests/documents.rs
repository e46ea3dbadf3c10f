//! The documents keep their word: every link leads somewhere, every command runs. The commands run in the lab, whose
//! addresses are those of the documents: a director, two real servers, a client.

#[path = "documents/commands.rs"]
mod commands;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use lvs_tund::lab;

mod support;

use support::markdown::{Document, documents, root};

type Outcome = Result<(), Failed>;
type Test = fn() -> Outcome;

/// A newcomer reads all of it.
const README_BYTES_MAX: usize = 8_000;

/// The languages of code blocks: `sh` is run here, `toml` is read by `tests/config.rs`, `text` is for the eye.
const LANGUAGES: &[&str] = &["sh", "toml", "text"];

const TESTS: &[(&str, Test)] = &[
    ("every_link_leads_to_a_file_and_a_heading", links),
    ("every_page_under_docs_can_be_reached_from_the_readme", reachable),
    ("files_named_in_sources_and_configuration_exist", named_pages),
    ("the_readme_is_short", short),
    ("every_code_block_has_a_language", languages),
    ("every_exception_for_a_command_is_needed", commands::exceptions_are_needed),
];

fn main() -> ExitCode {
    let entered = lab::enter().and_then(|_| lab::require_tun()).err().map(|error| error.to_string());
    let mut trials: Vec<Trial> = TESTS.iter().map(|&(name, test)| Trial::test(name, test)).collect();
    for command in commands::all() {
        let missing = entered.clone();
        let (name, is_ignored) = (command.name(), command.lacks_a_program());
        let test = move || missing.map_or_else(|| command.run(), |missing| Err(missing.into()));
        trials.push(Trial::test(name, test).with_ignored_flag(is_ignored));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// `docs/../SECURITY.md` is `SECURITY.md`.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut normal, component| {
        match component {
            Component::ParentDir => assert!(normal.pop(), "{} leaves the repository", path.display()),
            Component::CurDir => {}
            other => normal.push(other),
        }
        normal
    })
}

/// Where a link of this document leads inside the repository: file and anchor.
fn target_of(document: &Document, link: &str) -> Option<(PathBuf, String)> {
    let is_elsewhere = ["http://", "https://", "mailto:"].iter().any(|scheme| link.starts_with(scheme));
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let path = match file {
        "" => document.path.clone(),
        file => normal(&document.path.parent().expect("a directory").join(file)),
    };
    (!is_elsewhere).then(|| (path, anchor.to_owned()))
}

fn links() -> Outcome {
    let (mut wrong, mut count) = (String::new(), 0);
    for document in documents() {
        for (line, link) in document.links() {
            let Some((path, anchor)) = target_of(&document, &link) else { continue };
            let is_there = root().join(&path).exists()
                && (anchor.is_empty() || Document::read(&path).anchors().contains(&anchor));
            if !is_there {
                wrong.push_str(&format!("{}:{line}: {link}\n", document.path.display()));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{wrong}");
    assert!(count > 30, "only {count} links");
    Ok(())
}

fn reachable() -> Outcome {
    let pages = documents();
    let (mut reached, mut next) = (BTreeSet::new(), vec![PathBuf::from("README.md")]);
    while let Some(path) = next.pop() {
        let Some(page) = pages.iter().find(|page| page.path == path && reached.insert(path.clone())) else {
            continue;
        };
        next.extend(page.links().iter().filter_map(|(_, link)| target_of(page, link)).map(|(path, _)| path));
    }
    let lost: Vec<_> = pages.iter().map(|page| &page.path).filter(|path| !reached.contains(*path)).collect();
    assert!(lost.is_empty(), "nothing that begins at README.md links to {lost:?}");
    Ok(())
}

/// Comments, messages and configuration files point to pages by their path in the repository.
fn named_pages() -> Outcome {
    let mut directories = vec![root().join("src"), root().join("config")];
    let mut count = 0;
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
            for word in text.split(|c| !is_part(c)).filter(|word| word.starts_with("docs/")) {
                let page = word.trim_end_matches('.');
                assert!(root().join(page).exists(), "{} names {page}, which is absent", path.display());
                count += 1;
            }
        }
    }
    assert!(count > 0, "nothing names a page");
    Ok(())
}

fn short() -> Outcome {
    let length = Document::read(Path::new("README.md")).text.len();
    assert!(length <= README_BYTES_MAX, "README.md has {length} bytes, more than {README_BYTES_MAX}");
    Ok(())
}

fn languages() -> Outcome {
    for document in documents() {
        for block in document.blocks() {
            let place = format!("{}:{}", document.path.display(), block.line);
            assert!(LANGUAGES.contains(&block.language.as_str()), "{place}: ```{}", block.language);
        }
    }
    Ok(())
}
