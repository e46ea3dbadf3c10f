//! Door of `lab`.
