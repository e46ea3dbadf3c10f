//! Door of `director`.
