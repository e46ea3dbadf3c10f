//! ipvsadm's command line and its printed formats (ipvsadm(8), version 1.31), for a director instead of a
//! kernel.
//!
//! Pure: words in, [`command::Command`] out; data in, text out. [`names::Names`] resolves names.

pub mod command;
pub mod connections;
pub mod grammar;
pub mod help;
pub mod kernel;
pub mod legality;
pub mod listing;
pub mod names;
mod numbers;
pub mod options;
mod order;
pub mod restore;
pub mod save;
pub mod served;
pub mod values;
mod words;

/// Why a command fails: the text for standard error, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpvsadmError {
    /// Printed on standard error.
    pub text: String,
    /// 2, 255 or 1, as ipvsadm exits.
    pub exit: u8,
}

// Exit codes of ipvsadm: 2 for a line it cannot parse, 255 for an error of the kernel, 1 for a list.
const EXIT_USAGE: u8 = 2;
const EXIT_KERNEL: u8 = 255;
const EXIT_LIST: u8 = 1;

impl IpvsadmError {
    /// A command line that is invalid.
    pub fn usage(text: impl Into<String>) -> IpvsadmError {
        IpvsadmError { text: text.into(), exit: EXIT_USAGE }
    }

    /// A word that is not an option.
    pub fn word(text: String) -> IpvsadmError {
        IpvsadmError { text, exit: EXIT_KERNEL }
    }

    /// The command is not the first option, or there is none.
    pub fn try_help() -> IpvsadmError {
        IpvsadmError::word("Try `ipvsadm -h' or 'ipvsadm --help' for more information.".to_owned())
    }

    /// An error that ipvsadm reports from the kernel.
    pub fn kernel(text: impl Into<String>) -> IpvsadmError {
        IpvsadmError { text: text.into(), exit: EXIT_KERNEL }
    }

    /// A list that cannot be printed.
    pub fn list(text: impl Into<String>) -> IpvsadmError {
        IpvsadmError { text: text.into(), exit: EXIT_LIST }
    }
}
