//! Door of `encapsulation`.
