//! Check `exec`: a program of the operator's ends with exit code 0.

use std::sync::Arc;

use super::options::{flag, shown, text, texts};
use super::{Check, Command, Exchange, Step, Target};
use crate::health::spec::{BadOption, OptionRow, Options, Row, Shape, Transport};
use crate::health::verdict::{Failure, FailureClass, Outcome, Success};

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "exec",
    summary: "a program ends with exit code 0",
    transport: |_| Transport::Command,
    port: None,
    options: &[
        OptionRow {
            name: "command",
            help: "the program and its arguments, without a shell; required",
            shape: Shape::Texts,
        },
        OptionRow {
            name: "user",
            help: "the user that runs it; default: that of the daemon",
            shape: Shape::Text,
        },
        OptionRow {
            name: "group",
            help: "the group that runs it; default: that of the user",
            shape: Shape::Text,
        },
        OptionRow {
            name: "weight_from_exit",
            help: "exit codes 2 to 255 are a success, and the weight is the code less 2; default false",
            shape: Shape::Flag,
        },
    ],
    build,
};

fn build(options: &Options) -> Result<Arc<dyn Check>, BadOption> {
    let arguments = texts(options, "command").to_vec();
    if arguments.first().is_none_or(String::is_empty) {
        return Err(("command", "a program is required".to_owned()));
    }
    let name = |option: &'static str| match text(options, option) {
        Some("") => Err((option, "the name is empty".to_owned())),
        name => Ok(name.map(str::to_owned)),
    };
    let has_nul = |text: &&String| text.contains('\0');
    if let Some(argument) = arguments.iter().find(has_nul) {
        return Err(("command", format!("{argument:?} contains a NUL")));
    }
    let command = Command { arguments, user: name("user")?, group: name("group")? };
    Ok(Arc::new(Program { command, is_weight: flag(options, "weight_from_exit", false) }))
}

#[derive(Clone, Debug)]
struct Program {
    command: Command,
    is_weight: bool,
}

impl Check for Program {
    fn begin(&self, _: &Target, _: u64) -> Box<dyn Exchange> {
        Box::new(self.clone())
    }

    fn command(&self) -> Option<&Command> {
        Some(&self.command)
    }
}

fn failure(text: String) -> Failure {
    Failure::new(FailureClass::Command, text)
}

impl Exchange for Program {
    fn start(&mut self) -> Step {
        Step::Run(self.command.clone())
    }

    /// Output alone decides nothing.
    fn receive(&mut self, _: &[u8]) -> Step {
        Step::Wait
    }

    fn on_close(&mut self) -> Step {
        Step::Done(Err(failure("there is no connection".to_owned())))
    }

    fn on_timeout(&mut self) -> Option<Outcome> {
        let program = self.command.arguments.first().map(String::as_str).unwrap_or_default();
        Some(Err(Failure::new(FailureClass::Timeout, format!("{program} has not ended in time"))))
    }

    fn on_exit(&mut self, code: Option<i32>, output: &[u8]) -> Outcome {
        let line = output.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty());
        let line = line.map(|line| format!(": {}", shown(line))).unwrap_or_default();
        match code {
            Some(0) => Ok(Success::default()),
            Some(code @ 2..=255) if self.is_weight => {
                Ok(Success { weight: u32::try_from(code - 2).ok(), ..Success::default() })
            }
            Some(code) => Err(failure(format!("exit code {code}{line}"))),
            None => Err(failure(format!("ended by a signal{line}"))),
        }
    }
}
