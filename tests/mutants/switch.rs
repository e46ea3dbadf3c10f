//! Which change is switched on in this process: `MUTANT=ID`. `MUTANT_REACHED=FILE` writes down which are met.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

enum Mode {
    Off,
    One(u32),
    Record(String),
}

static SEEN: [AtomicBool; 1 << 16] = [const { AtomicBool::new(false) }; 1 << 16];

fn mode() -> &'static Mode {
    static MODE: OnceLock<Mode> = OnceLock::new();
    MODE.get_or_init(|| {
        if let Ok(file) = std::env::var("MUTANT_REACHED") {
            return Mode::Record(file);
        }
        match std::env::var("MUTANT").ok().and_then(|id| id.parse().ok()) {
            Some(id) => Mode::One(id),
            None => Mode::Off,
        }
    })
}

#[inline]
pub fn is(id: u32) -> bool {
    match mode() {
        Mode::Off => false,
        Mode::One(active) => *active == id,
        Mode::Record(file) => {
            let seen = &SEEN[id as usize];
            if !seen.load(Ordering::Relaxed) && !seen.swap(true, Ordering::Relaxed) {
                record(id, file);
            }
            false
        }
    }
}

#[cold]
fn record(id: u32, file: &str) {
    let opened = OpenOptions::new().append(true).create(true).open(file);
    if let Err(error) = opened.and_then(|mut file| file.write_all(format!("{id}\n").as_bytes())) {
        eprintln!("MUTANT_REACHED: {error}");
        std::process::abort();
    }
}
