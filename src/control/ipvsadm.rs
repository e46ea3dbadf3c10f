//! ipvsadm's command line and its printed formats, for a director instead of a kernel (ipvs.md §16 to §18).
//!
//! Pure: words in, [`command::Command`] out; data in, text out. Names are asked of [`names::Names`].

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

/// Why a command is not carried out: what is printed on standard error, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub text: String,
    pub exit: u8,
}

/// Exit codes of ipvsadm (ipvs.md §16.2).
const EXIT_USAGE: u8 = 2;
const EXIT_KERNEL: u8 = 255;
const EXIT_LIST: u8 = 1;

impl Refusal {
    /// A command line that is wrong in itself.
    pub fn usage(text: impl Into<String>) -> Refusal {
        Refusal { text: text.into(), exit: EXIT_USAGE }
    }

    /// A word that is no option.
    pub fn word(text: String) -> Refusal {
        Refusal { text, exit: EXIT_KERNEL }
    }

    /// The command does not stand first, or is none.
    pub fn try_help() -> Refusal {
        Refusal::word("Try `ipvsadm -h' or 'ipvsadm --help' for more information.".to_owned())
    }

    /// What the kernel would have refused.
    pub fn kernel(text: impl Into<String>) -> Refusal {
        Refusal { text: text.into(), exit: EXIT_KERNEL }
    }

    /// A list that cannot be had.
    pub fn list(text: impl Into<String>) -> Refusal {
        Refusal { text: text.into(), exit: EXIT_LIST }
    }
}
