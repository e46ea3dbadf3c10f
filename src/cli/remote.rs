//! Shared by the commands that talk to a running director: which director, which real server, and the report
//! of a change.

use std::path::PathBuf;
use std::str::FromStr;

use serde_json::json;

use super::{Failure, Format, print};
use crate::control::client::VARIABLE;
use crate::control::model::{Change, Changed, Matcher, Operation, ServiceRef};
use crate::control::{Client, ClientError, Code, ControlError};
use crate::director::cluster;
use crate::packet::Protocol;

#[derive(Debug, clap::Args)]
pub(super) struct ControlArguments {
    /// The director's control socket
    ///
    /// Default: the value of LVS_TUND_CONTROL, otherwise /run/lvs-tund/director.sock
    #[arg(long, value_name = "PATH", verbatim_doc_comment)]
    control: Option<PathBuf>,
}

impl ControlArguments {
    /// Whether the option or the variable names a socket.
    pub(super) fn is_named(&self) -> bool {
        self.control.is_some() || std::env::var_os(VARIABLE).is_some_and(|path| !path.is_empty())
    }

    pub(super) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(self.control.as_deref())?)
    }
}

/// Selects a real server.
#[derive(Debug, clap::Args)]
pub(super) struct ServerArguments {
    /// Its name or RIP
    pub real_server: String,
    /// Only in this virtual service: its name, or PROTOCOL:VIP:PORT [default: in every one that has the real
    /// server]
    #[arg(long, value_name = "SERVICE")]
    virtual_service: Option<ServiceWord>,
}

impl ServerArguments {
    pub(super) fn virtual_service(&self) -> Option<ServiceRef> {
        self.virtual_service.as_ref().map(|word| word.0.clone())
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct ChangeArguments {
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Format of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// "web", or "tcp:172.25.3.100:80", which may end in a range of ports or "all".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceWord(pub ServiceRef);

impl FromStr for ServiceWord {
    type Err = String;

    fn from_str(word: &str) -> Result<ServiceWord, String> {
        let protocols = [Protocol::Tcp, Protocol::Udp];
        let address = word.split_once(':').and_then(|(name, rest)| {
            let protocol = protocols.into_iter().find(|protocol| protocol.name() == name)?;
            let (vip, ports) = rest.rsplit_once(':')?;
            Some(cluster::Matcher { protocol, vip: vip.parse().ok()?, ports: ports.parse().ok()? })
        });
        match address {
            Some(matcher) => Ok(ServiceWord(ServiceRef::Matcher(Matcher::from(matcher)))),
            None if word.is_empty() => Err("expected a name, or PROTOCOL:VIP:PORT".to_owned()),
            None => Ok(ServiceWord(ServiceRef::Name(word.to_owned()))),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let message = error.to_string();
        match error {
            ClientError::Refused(ControlError { code, .. }) => match code {
                // These may succeed if tried again or after a repair on the host.
                Code::Busy | Code::HostRefused | Code::Internal => Failure::Failed(message),
                _ => Failure::Refused(message),
            },
            _ => Failure::Failed(message),
        }
    }
}

/// What a command that changes the administrative state of a real server needs.
#[derive(Debug, clap::Args)]
pub(super) struct ServerStateArguments {
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    control: ControlArguments,
}

impl ServerStateArguments {
    /// Carries out the operation on the real server.
    pub(super) fn carry_out(
        &self,
        operation: impl FnOnce(Option<ServiceRef>, String) -> Operation,
    ) -> Result<(), Failure> {
        let operation = operation(self.server.virtual_service(), self.server.real_server.clone());
        carry_out(operation, &self.control, &self.change).map(drop)
    }
}

/// Sends operations to the director and prints what changed.
pub(super) fn carry_out(
    operation: Operation,
    control: &ControlArguments,
    arguments: &ChangeArguments,
) -> Result<Client, Failure> {
    let client = control.client()?;
    let change = Change { dry_run: arguments.dry_run, ..Change::from(vec![operation]) };
    arguments.report(&client.change(&change)?)?;
    Ok(client)
}

impl ChangeArguments {
    pub(super) const fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    pub(super) fn report(&self, changed: &Changed) -> Result<(), Failure> {
        report(changed, self.format)
    }
}

/// Prints what a change did, or would do.
pub(super) fn report(changed: &Changed, format: Format) -> Result<(), Failure> {
    let text = match format {
        Format::Json => format!("{}\n", json!(changed)),
        Format::Text if changed.differences.is_empty() => "nothing to change\n".to_owned(),
        Format::Text => changed.differences.iter().map(|difference| format!("{difference}\n")).collect(),
    };
    print(&text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_protocol_vip_and_port_is_an_address_and_any_other_a_name() {
        let read = |word: &str| word.parse::<ServiceWord>().map(|word| word.0.to_string());
        assert_eq!(read("tcp:172.25.3.100:80").unwrap(), "tcp 172.25.3.100:80");
        assert_eq!(read("udp:172.25.3.100:8000-8099").unwrap(), "udp 172.25.3.100:8000-8099");
        assert_eq!(read("web").unwrap(), "\"web\"");
        assert_eq!(read("tcp-172.25.3.100-80").unwrap(), "\"tcp-172.25.3.100-80\"");
        assert_eq!(read("tcp:172.25.3.100").unwrap(), "\"tcp:172.25.3.100\"");
        assert!(read("").is_err());
    }

    #[test]
    fn a_rejected_request_and_a_failure_on_the_host_have_different_exit_codes() {
        let code = |code| Failure::from(ClientError::Refused(ControlError::new(code, "why"))).exit_code();
        assert_eq!((code(Code::NoSuchService), code(Code::Invalid), code(Code::NeedsRestart)), (2, 2, 2));
        assert_eq!((code(Code::Busy), code(Code::HostRefused), code(Code::Internal)), (1, 1, 1));
    }
}
