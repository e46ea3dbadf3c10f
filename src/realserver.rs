//! Door of `realserver`.
