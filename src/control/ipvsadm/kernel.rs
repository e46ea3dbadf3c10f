//! Prints the director's errors in the words that ipvsadm uses for those of the kernel (ipvs_strerror() in
//! libipvs.c).

use super::IpvsadmError;
use super::options::Verb;
use super::served::{NO_SUCH_SERVICE, SERVICE_NOT_DEFINED};
use crate::control::{Code, ControlError};

/// EINVAL, which covers every other refusal of a value.
const INVALID: &str = "Invalid operation.  Possibly wrong module version, address not unicast, ...";
const FAMILY: &str = "Operation not supported with specified address family";

/// The message of ipvsadm for `error` after a command of this kind.
pub fn refusal(verb: Verb, error: &ControlError) -> IpvsadmError {
    let is_about_server = matches!(verb, Verb::AddServer | Verb::EditServer | Verb::DeleteServer);
    let with_sentence = |text: &str| format!("{text}\nlvs-tund: {}", error.message);
    let text = match error.code {
        Code::ServiceExists => "Service already exists".to_owned(),
        Code::RealServerExists => "Destination already exists".to_owned(),
        Code::NoSuchService if is_about_server => SERVICE_NOT_DEFINED.to_owned(),
        Code::NoSuchService => NO_SUCH_SERVICE.to_owned(),
        Code::NoSuchRealServer => "No such destination".to_owned(),
        Code::NoSuchScheduler => "Scheduler or persistence engine not found".to_owned(),
        Code::UnsupportedAddressFamily => with_sentence(FAMILY),
        Code::Invalid => with_sentence(INVALID),
        _ => format!("lvs-tund: {}", error.message),
    };
    if verb == Verb::List { IpvsadmError::list(text) } else { IpvsadmError::kernel(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_the_text_of_its_command() {
        let text = |verb, code| refusal(verb, &ControlError::new(code, "the sentence")).text;
        assert_eq!(text(Verb::AddService, Code::ServiceExists), "Service already exists");
        assert_eq!(text(Verb::AddServer, Code::RealServerExists), "Destination already exists");
        for verb in [Verb::EditService, Verb::DeleteService, Verb::Zero, Verb::List] {
            assert_eq!(text(verb, Code::NoSuchService), "No such service");
        }
        for verb in [Verb::AddServer, Verb::EditServer, Verb::DeleteServer] {
            assert_eq!(text(verb, Code::NoSuchService), "Service not defined");
        }
        assert_eq!(text(Verb::EditServer, Code::NoSuchRealServer), "No such destination");
        assert_eq!(
            text(Verb::AddService, Code::NoSuchScheduler),
            "Scheduler or persistence engine not found"
        );
        assert_eq!(
            text(Verb::AddService, Code::Invalid),
            "Invalid operation.  Possibly wrong module version, address not unicast, ...\nlvs-tund: the sentence"
        );
        assert_eq!(text(Verb::Flush, Code::Busy), "lvs-tund: the sentence");
        let exit = |verb| refusal(verb, &ControlError::new(Code::NoSuchService, "")).exit;
        assert_eq!((exit(Verb::List), exit(Verb::Zero)), (1, 255));
    }
}
