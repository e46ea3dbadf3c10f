//! How much of the core could be wrong without a test failing: see docs/testing.md.

mod lists;
mod mutate;
mod past;
mod run;
mod source;
mod tree;

use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lists::{Lists, Score, digest};
use mutate::{Mutant, Terms};
use past::Past;
use run::Outcome;
use tree::{TestBinary, Tree};

const USAGE: &str = "\
tests/mutants/run [--save] [--sample SECONDS] [--again] [--list] [FILE...]

Changes the code of each file in every small way, and reports the changes that no test notices.
Without FILE: all files of tests/mutants/files.toml.

  --save            keep the scores in tests/mutants/scores.toml
  --sample SECONDS  try only changes of files that have changed since their score was kept (of all files if
                    none has), for at most this long after the build; fails if what is missed does not fit the
                    kept score of a file that has one
  --again           of files that an earlier run has measured, try only the changes that it missed
  --list            print the changes and try none
";
/// A test that takes longer than this is skipped.
const SLOW: Duration = Duration::from_secs(120);
/// A sample leaves out tests slower than this.
const SLOW_IN_SAMPLE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Arguments {
    is_saved: bool,
    is_listed: bool,
    is_again: bool,
    sample: Option<Duration>,
    files: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(reason) => {
            eprint!("{reason}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match start(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("mutants: {reason}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut given = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--save" => given.is_saved = true,
            "--list" => given.is_listed = true,
            "--again" => given.is_again = true,
            "--sample" => {
                let seconds = words.next().and_then(|word| word.parse().ok());
                given.sample =
                    Some(Duration::from_secs(seconds.ok_or("--sample takes a number of seconds")?));
            }
            word if word.starts_with('-') => return Err(format!("{word}: no such option")),
            file => given.files.push(file.to_string()),
        }
    }
    Ok(given)
}

/// Whether every score is as high as it must be.
fn start(arguments: &Arguments) -> Result<bool, String> {
    let begun = Instant::now();
    let repository = std::env::current_dir().map_err(|error| error.to_string())?;
    let mut lists = Lists::read(&repository.join("tests/mutants"))?;
    let files = chosen(arguments, &lists, &repository)?;
    let root = repository.join("target/mutants");
    let tree = Tree::lay(&repository, root.join("tree"), files.clone()).map_err(|error| error.to_string())?;
    let (mutants, binaries) = build(&tree, &mut lists, arguments)?;
    if arguments.is_listed {
        mutants.iter().for_each(|mutant| println!("{}:{} {}", mutant.file, mutant.line, mutant.key()));
        return Ok(true);
    }
    eprintln!("{} changes in {} files compile ({:.0?})", mutants.len(), files.len(), begun.elapsed());
    let slow = if arguments.sample.is_some() { SLOW_IN_SAMPLE } else { SLOW };
    let reach = run::explore(&binaries, &tree.root, &run::scratch(&root)?, slow)?;
    eprintln!("{} tests explored ({:.0?})", reach.tests.len(), begun.elapsed());

    let tried: Vec<&Mutant> = mutants.iter().filter(|mutant| !lists.is_equivalent(&mutant.key())).collect();
    let tried = if arguments.sample.is_some() { shuffled(tried) } else { tried };
    let mut past = Past::read(&root.join("missed.txt"));
    let tried = if arguments.is_again { past.missed_of(tried) } else { tried };
    let until = arguments.sample.map(|sample| Instant::now() + sample);
    let outcomes = run::judge(&tried, &reach, &binaries, &tree.root, until)?;
    let results: Vec<(&Mutant, Outcome)> =
        tried.iter().zip(outcomes).filter_map(|(mutant, outcome)| Some((*mutant, outcome?))).collect();
    if arguments.sample.is_none() {
        past.take(&results);
        past.save(&root.join("missed.txt"))?;
    }
    let is_good = report(arguments, &mut lists, &repository, &mutants, &results)?;
    eprintln!("took {:.0?}", begun.elapsed());
    Ok(is_good)
}

/// The files named on the command line; for a sample those that have changed.
fn chosen(arguments: &Arguments, lists: &Lists, repository: &Path) -> Result<Vec<String>, String> {
    let all: Vec<String> = lists.files.floor.keys().cloned().collect();
    if let Some(unknown) = arguments.files.iter().find(|file| !all.contains(file)) {
        return Err(format!("{unknown}: not in tests/mutants/files.toml"));
    }
    if !arguments.files.is_empty() {
        return Ok(arguments.files.clone());
    }
    if arguments.sample.is_none() {
        return Ok(all);
    }
    let mut changed = Vec::new();
    for file in &all {
        let text = tree::read(&repository.join(file))?;
        if lists.scores.files.get(file).is_none_or(|score| score.text != digest(&text)) {
            changed.push(file.clone());
        }
    }
    Ok(if changed.is_empty() { all } else { changed })
}

/// The changes that compile, and the binaries they are compiled into: none if they are only listed.
fn build(
    tree: &Tree,
    lists: &mut Lists,
    arguments: &Arguments,
) -> Result<(Vec<Mutant>, Vec<TestBinary>), String> {
    let tests = lists.files.tests_of(tree.files());
    let mut terms = Terms {
        enums: Vec::new(),
        unviable: lists.unviable.iter().cloned().collect::<HashSet<_>>(),
        constant: lists.constant.clone(),
    };
    tree.learn(&mut terms)?;
    // Mostly the kept list of changes that do not compile is complete.
    if arguments.sample.is_some() {
        let mutants = tree.mutate(&terms)?;
        if let Ok(binaries) = tree.build(&tests) {
            return Ok((mutants, binaries));
        }
    }
    let mutants = viable(tree, lists, terms)?;
    let binaries = if arguments.is_listed { Vec::new() } else { tree.build(&tests)? };
    Ok((mutants, binaries))
}

/// Puts the changes in, and takes those out again that do not compile.
fn viable(tree: &Tree, lists: &mut Lists, mut terms: Terms) -> Result<Vec<Mutant>, String> {
    for _ in 0..20 {
        let mutants = tree.mutate(&terms)?;
        let constant = terms.constant.len();
        let refused = tree.refused(&mutants, &mut terms)?;
        if refused.is_empty() && constant == terms.constant.len() {
            lists.save_unviable()?;
            return Ok(mutants);
        }
        eprintln!("{} changes do not compile", refused.len());
        terms.unviable.extend(refused.iter().map(Mutant::key));
        lists.unviable.extend(refused.iter().map(Mutant::key));
        lists.constant.extend(terms.constant.iter().cloned());
    }
    Err("the changed code does not compile after twenty attempts".into())
}

/// The same order for the same changes, but no file and no function in one piece.
fn shuffled(mut mutants: Vec<&Mutant>) -> Vec<&Mutant> {
    mutants.sort_by_cached_key(|mutant| digest(&mutant.key()));
    mutants
}

fn report(
    arguments: &Arguments,
    lists: &mut Lists,
    repository: &Path,
    mutants: &[Mutant],
    results: &[(&Mutant, Outcome)],
) -> Result<bool, String> {
    let mut is_good = true;
    let files: Vec<String> = {
        let mut files: Vec<String> = mutants.iter().map(|mutant| mutant.file.clone()).collect();
        files.dedup();
        files
    };
    for (mutant, outcome) in results.iter().filter(|(_, outcome)| !outcome.is_caught()) {
        let never = if *outcome == Outcome::Unreached { " (no test runs it)" } else { "" };
        println!("missed {}:{} | {} | {}{never}", mutant.file, mutant.line, mutant.function, mutant.change);
    }
    println!(
        "\n{:<40} {:>7} {:>7} {:>6} {:>6} {:>6} {:>7}",
        "file", "mutants", "equiv.", "tried", "hung", "missed", "score"
    );
    for file in files {
        let of_file: Vec<_> = results.iter().filter(|(mutant, _)| mutant.file == file).collect();
        let total = mutants.iter().filter(|mutant| mutant.file == file).count();
        let equivalent =
            mutants.iter().filter(|mutant| mutant.file == file && lists.is_equivalent(&mutant.key())).count();
        let missed = of_file.iter().filter(|(_, outcome)| !outcome.is_caught()).count();
        // With --again the others were caught before.
        let judged = if arguments.is_again { total - equivalent } else { of_file.len() };
        let hung = of_file.iter().filter(|(_, outcome)| *outcome == Outcome::Hung).count();
        let score = percent(judged - missed, judged);
        println!(
            "{file:<40} {total:>7} {equivalent:>7} {:>6} {hung:>6} {missed:>6} {score:>6.1} %",
            of_file.len()
        );
        if arguments.sample.is_some() {
            // A few changes of a file that was never measured as a whole are no score.
            let Some(kept) = lists.scores.files.get(&file).map(|score| score.score) else { continue };
            let allowed = ((100.0 - kept) / 100.0 * (total - equivalent) as f64 + 0.001).floor() as usize;
            if missed > allowed {
                println!(
                    "{file}: {missed} of this sample are missed; a score of {kept:.1} % leaves {allowed}"
                );
                is_good = false;
            }
            continue;
        }
        let floor = lists.files.floor.get(&file).copied().unwrap_or(100.0);
        if score < floor {
            println!("{file}: {score:.1} % is below the least score of {floor} % (tests/mutants/files.toml)");
            is_good = false;
        }
        // What a partial run tries is no measurement.
        if arguments.is_saved && of_file.len() == total - equivalent {
            let text = digest(&tree::read(&repository.join(&file))?);
            let score =
                Score { score: (score * 10.0).floor() / 10.0, mutants: total, equivalent, missed, text };
            lists.scores.files.insert(file, score);
        }
    }
    if arguments.is_saved {
        let floor = &lists.files.floor;
        lists.scores.files.retain(|file, _| floor.contains_key(file));
        lists.save_scores()?;
    }
    is_good &= no_idle_rows(lists, mutants);
    Ok(is_good)
}

/// A row of `equivalent.toml` that describes no change is out of date.
fn no_idle_rows(lists: &Lists, mutants: &[Mutant]) -> bool {
    let keys: HashSet<String> = mutants.iter().map(Mutant::key).collect();
    let files: HashSet<&str> = mutants.iter().map(|mutant| mutant.file.as_str()).collect();
    let idle: Vec<String> = lists
        .equivalent_keys()
        .filter(|key| key.split(" | ").next().is_some_and(|file| files.contains(file)) && !keys.contains(key))
        .collect();
    idle.iter().for_each(|key| println!("tests/mutants/equivalent.toml: no such change: {key}"));
    idle.is_empty()
}

fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 }
}
