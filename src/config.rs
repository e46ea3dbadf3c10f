//! Door of `config`.
