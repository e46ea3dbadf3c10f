//! Runs the tests: once for what each reaches, then once per change.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::mutate::Mutant;
use crate::tree::TestBinary;

/// Memory a test may take before it is ended, in KiB.
const MEMORY_MAX: u64 = 6_000_000;
/// What a test that is too slow to be explored may take.
const SLOWEST: Duration = Duration::from_secs(120);
/// Tests run together in one process up to this much of their usual time.
const BATCH: Duration = Duration::from_millis(300);

/// One test, and how long it takes without a change.
#[derive(Clone, Debug)]
pub struct Test {
    pub binary: usize,
    pub name: String,
    pub takes: Duration,
}

/// What each change meets: indices of tests, the fastest first.
pub struct Reach {
    pub tests: Vec<Test>,
    pub of: HashMap<u32, Vec<usize>>,
    /// Tests too slow to be explored: the last resort before a change counts as missed.
    pub slow: Vec<Test>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Caught,
    /// A test did not end: caught as well.
    Hung,
    Missed,
    /// No test runs the code.
    Unreached,
}

impl Outcome {
    pub fn is_caught(self) -> bool {
        matches!(self, Outcome::Caught | Outcome::Hung)
    }
}

struct Process<'a> {
    binary: &'a TestBinary,
    root: &'a Path,
    environment: Vec<(&'static str, String)>,
    limit: Duration,
}

enum End {
    Passed,
    Failed,
    TimedOut,
}

impl Process<'_> {
    fn run(&self, tests: &[&str]) -> Result<End, String> {
        // The shell only sets the limit; the tests take its place.
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -v \"$0\"; ulimit -c 0; exec \"$@\"", &MEMORY_MAX.to_string()])
            .arg(&self.binary.path)
            .args(["--exact", "--test-threads=1", "--quiet"])
            .args(tests)
            .envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())))
            .env("CARGO_MANIFEST_DIR", self.root)
            .env("PROPTEST_FAILURE_PERSISTENCE", "off")
            .current_dir(self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", self.binary.path.display()))?;
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                return Ok(if status.success() { End::Passed } else { End::Failed });
            }
            if begun.elapsed() > self.limit {
                child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
                return Ok(End::TimedOut);
            }
            let young = begun.elapsed() < Duration::from_millis(40);
            thread::sleep(Duration::from_millis(if young { 1 } else { 8 }));
        }
    }
}

/// Runs every test alone and writes down its time and the changes it meets.
pub fn explore(
    binaries: &[TestBinary],
    root: &Path,
    scratch: &Path,
    slow: Duration,
) -> Result<Reach, String> {
    let mut names = Vec::new();
    for (index, binary) in binaries.iter().enumerate() {
        let listed = Command::new(&binary.path)
            .args(["--list", "--format=terse"])
            .current_dir(root)
            .output()
            .map_err(|error| format!("{}: {error}", binary.path.display()))?;
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        names.extend(text.lines().filter_map(|line| Some((index, line.strip_suffix(": test")?.to_string()))));
    }
    let found = Mutex::new(Vec::new());
    let failed = Mutex::new(Vec::new());
    let slow_ones = Mutex::new(Vec::new());
    in_parallel(names.len(), |at| {
        let (binary, name) = &names[at];
        let file = scratch.join(format!("reached-{at}"));
        let process = Process {
            binary: &binaries[*binary],
            root,
            environment: vec![("MUTANT_REACHED", file.display().to_string())],
            limit: slow,
        };
        let begun = Instant::now();
        let end = process.run(&[name])?;
        let test = Test { binary: *binary, name: name.clone(), takes: begun.elapsed() };
        // Too slow to be run once per change.
        if matches!(end, End::TimedOut) {
            lock(&slow_ones).push(Test { binary: *binary, name: name.clone(), takes: SLOWEST });
            return Ok(());
        }
        if !matches!(end, End::Passed) {
            lock(&failed).push(format!("{}: {name}", binaries[*binary].name));
            return Ok(());
        }
        let reached = fs::read_to_string(&file).unwrap_or_default();
        lock(&found).push((test, reached.lines().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>()));
        Ok(())
    })?;
    let failed = failed.into_inner().unwrap_or_default();
    if !failed.is_empty() {
        return Err(format!("these tests fail without any change: {}", failed.join(", ")));
    }
    let mut found = found.into_inner().unwrap_or_default();
    found.sort_by_key(|(test, _)| test.takes);
    let mut of: HashMap<u32, Vec<usize>> = HashMap::new();
    for (index, (_, ids)) in found.iter().enumerate() {
        for id in ids {
            of.entry(*id).or_default().push(index);
        }
    }
    let slow = slow_ones.into_inner().unwrap_or_default();
    Ok(Reach { tests: found.into_iter().map(|(test, _)| test).collect(), of, slow })
}

/// The outcome of each change, in order; those not begun before `until` have none.
pub fn judge(
    mutants: &[&Mutant],
    reach: &Reach,
    binaries: &[TestBinary],
    root: &Path,
    until: Option<Instant>,
) -> Result<Vec<Option<Outcome>>, String> {
    let outcomes = Mutex::new(vec![None; mutants.len()]);
    // What caught a change of a function catches its neighbours.
    let killers: Mutex<BTreeMap<(String, String), Vec<usize>>> = Mutex::default();
    let done = AtomicUsize::new(0);
    in_parallel(mutants.len(), |at| {
        if until.is_some_and(|until| Instant::now() > until) {
            return Ok(());
        }
        let mutant = mutants[at];
        let place = (mutant.file.clone(), mutant.function.clone());
        let likely = lock(&killers).get(&place).cloned().unwrap_or_default();
        let (outcome, killer) = judge_one(mutant, &likely, reach, binaries, root)?;
        if let Some(killer) = killer {
            let mut killers = lock(&killers);
            let known = killers.entry(place).or_default();
            known.retain(|other| *other != killer);
            known.insert(0, killer);
            known.truncate(4);
        }
        if !outcome.is_caught() {
            eprintln!("missed {}", mutant.key());
        }
        lock(&outcomes)[at] = Some(outcome);
        let count = done.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_multiple_of(100) {
            eprintln!("{count} of {} changes tried", mutants.len());
        }
        Ok(())
    })?;
    Ok(outcomes.into_inner().unwrap_or_default())
}

fn judge_one(
    mutant: &Mutant,
    likely: &[usize],
    reach: &Reach,
    binaries: &[TestBinary],
    root: &Path,
) -> Result<(Outcome, Option<usize>), String> {
    let Some(tests) = reach.of.get(&mutant.id) else { return Ok((Outcome::Unreached, None)) };
    let mut batches: Vec<Vec<usize>> =
        likely.iter().filter(|at| tests.contains(at)).map(|at| vec![*at]).collect();
    let mut rest: Vec<usize> = tests.iter().copied().filter(|at| !likely.contains(at)).collect();
    // Stable: within a binary the fastest stay first.
    rest.sort_by_key(|at| (reach.tests[*at].takes > BATCH, reach.tests[*at].binary));
    for at in rest {
        let test = &reach.tests[at];
        let joins = batches.last().is_some_and(|batch: &Vec<usize>| {
            let takes: Duration = batch.iter().map(|at| reach.tests[*at].takes).sum();
            batch.iter().all(|other| reach.tests[*other].binary == test.binary) && takes + test.takes <= BATCH
        });
        match batches.last_mut() {
            Some(batch) if joins => batch.push(at),
            _ => batches.push(vec![at]),
        }
    }
    batches.sort_by_key(|batch| batch.iter().map(|at| reach.tests[*at].takes).sum::<Duration>());
    for batch in batches {
        let takes: Duration = batch.iter().map(|at| reach.tests[*at].takes).sum();
        let process = Process {
            binary: &binaries[reach.tests[batch[0]].binary],
            root,
            environment: vec![("MUTANT", mutant.id.to_string())],
            limit: takes * 8 + Duration::from_secs(5),
        };
        let names: Vec<&str> = batch.iter().map(|at| reach.tests[*at].name.as_str()).collect();
        let killer = (batch.len() == 1).then(|| batch[0]);
        match process.run(&names)? {
            End::Passed => {}
            End::Failed => return Ok((Outcome::Caught, killer)),
            End::TimedOut => return Ok((Outcome::Hung, killer)),
        }
    }
    for test in &reach.slow {
        let process = Process {
            binary: &binaries[test.binary],
            root,
            environment: vec![("MUTANT", mutant.id.to_string())],
            limit: test.takes,
        };
        if matches!(process.run(&[&test.name])?, End::Failed) {
            return Ok((Outcome::Caught, None));
        }
    }
    Ok((Outcome::Missed, None))
}

/// Calls `work` for each number below `count`, on every core.
fn in_parallel(count: usize, work: impl Fn(usize) -> Result<(), String> + Sync) -> Result<(), String> {
    let (next, error) = (AtomicUsize::new(0), Mutex::new(None));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count || lock(&error).is_some() {
                        return;
                    }
                    if let Err(reason) = work(at) {
                        *lock(&error) = Some(reason);
                    }
                }
            });
        }
    });
    error.into_inner().unwrap_or_default().map_or(Ok(()), Err)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A folder of this process, empty.
pub fn scratch(root: &Path) -> Result<PathBuf, String> {
    let path = root.join("reached");
    let made = fs::remove_dir_all(&path).or(Ok(())).and_then(|()| fs::create_dir_all(&path));
    made.map(|()| path.clone()).map_err(|error| format!("{}: {error}", path.display()))
}
