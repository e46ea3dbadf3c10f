//! Door of `host`.
