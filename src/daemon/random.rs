//! The only place that draws random numbers.

use std::hash::{BuildHasher, RandomState};

/// From the kernel's entropy, through the standard library's hash keys.
pub(super) fn draw() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
