//! Which change is switched on in this process: `MUTANT=ID`. `MUTANT_REACHED=FILE` writes down which are met.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::{Mutex, OnceLock};

enum Mode {
    Off,
    One(u32),
    Record(Mutex<HashSet<u32>>, String),
}

fn mode() -> &'static Mode {
    static MODE: OnceLock<Mode> = OnceLock::new();
    MODE.get_or_init(|| {
        if let Ok(file) = std::env::var("MUTANT_REACHED") {
            return Mode::Record(Mutex::default(), file);
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
        Mode::Record(seen, file) => {
            if seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(id) {
                let opened = OpenOptions::new().append(true).create(true).open(file);
                let written = opened.and_then(|mut file| file.write_all(format!("{id}\n").as_bytes()));
                if let Err(error) = written {
                    eprintln!("MUTANT_REACHED: {error}");
                    std::process::abort();
                }
            }
            false
        }
    }
}
