//! Door of `packet`.
