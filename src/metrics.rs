//! Door of `metrics`.
