//! Door of `daemon`.
