//! Door of `datapath`.
