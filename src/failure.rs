//! Why a command ends without success: the two ways, and their exit codes.

/// Why a command did not do what was asked. Every message is one line: what, where, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Usage or configuration; nothing was touched. Exit code 2.
    #[error("{0}")]
    Refused(String),
    /// It started and could not go on. Exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Refused(_) => 2,
            Failure::Failed(_) => 1,
        }
    }
}
