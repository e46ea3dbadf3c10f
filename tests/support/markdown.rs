//! The repository's Markdown files, as far as tests read them: headings with their anchors, links and code blocks.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One Markdown file; its path is relative to the repository.
pub struct Document {
    pub path: PathBuf,
    pub text: String,
}

/// A fenced code block; `line` is the number of its first line of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub language: String,
    pub line: usize,
    pub code: String,
}

/// Every Markdown file that belongs to the repository.
pub fn documents() -> Vec<Document> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root().join(&directory)).expect("a readable directory") {
            let entry = entry.expect("a readable entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = directory.join(&name);
            if entry.path().is_dir() && !name.starts_with('.') && name != "target" {
                directories.push(path);
            } else if name.ends_with(".md") {
                found.push(Document::read(&path));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 5, "only {} Markdown files", found.len());
    found
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Document {
    pub fn read(path: &Path) -> Document {
        let text = fs::read_to_string(root().join(path)).expect("a readable Markdown file");
        Document { path: path.to_owned(), text }
    }

    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (index, line) in self.text.lines().enumerate() {
            match (line.strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(language), None) => {
                    open = Some(Block { language: language.into(), line: index + 2, code: String::new() });
                }
                (None, Some(block)) => block.code.extend([line, "\n"]),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a code block has no end", self.path.display());
        blocks
    }

    /// The lines outside of code blocks, with their numbers.
    pub fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut is_code = false;
        self.text.lines().enumerate().filter_map(move |(index, line)| {
            let is_fence = line.starts_with("```");
            is_code ^= is_fence;
            (!is_code && !is_fence).then_some((index + 1, line))
        })
    }

    /// The anchors that a Markdown viewer gives to the headings: lower case, blanks as hyphens, letters, digits, `-`
    /// and `_`; a heading that repeats gets `-1`, `-2`, …
    pub fn anchors(&self) -> Vec<String> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let headings = self.prose().filter(|(_, line)| line.starts_with('#'));
        let anchor = |(_, line): (usize, &str)| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            let slug: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
            let count = seen.entry(slug.clone()).or_default();
            *count += 1;
            if *count == 1 { slug } else { format!("{slug}-{}", *count - 1) }
        };
        headings.map(anchor).collect()
    }

    /// The targets of `[text](target)` and `[label]: target`, with the line; code in backquotes is no link.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (number, line) in self.prose() {
            let line: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
            for rest in line.split("](").skip(1) {
                links.extend(rest.split(')').next().map(|target| (number, target.to_owned())));
            }
            let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
            links.extend(definition.map(|(_, target)| (number, target.trim().to_owned())));
        }
        links
    }
}
