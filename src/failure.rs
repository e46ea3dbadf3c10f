//! Why a command fails: the two kinds of failure and their exit codes.

/// Why a command failed. Every message is one line: what, where, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Wrong usage or configuration; nothing was changed. Exit code 2.
    #[error("{0}")]
    Refused(String),
    /// The command started and could not continue. Exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// The exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Refused(_) => 2,
            Failure::Failed(_) => 1,
        }
    }
}
