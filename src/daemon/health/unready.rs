//! What the checks and the programs of `on_change` need of this host, and what of it is not there: files, programs, users.

use std::collections::HashMap;

use super::{program, tls};
use crate::director::cluster::{ClusterConfig, VirtualServiceConfig};
use crate::health::CheckConfig;
use crate::health::check::{Command, Tls};

/// One sentence for each thing that is missing, with the next step. Looks at files, and may wait for their host.
pub(in crate::daemon) fn unready(cluster: &ClusterConfig) -> Vec<String> {
    let mut found = Found::default();
    for service in &cluster.virtual_services {
        for (place, check) in checks(service) {
            found.look_at(place, check);
        }
    }
    let mut sentences: Vec<String> = found.reasons.into_iter().map(Reason::sentence).collect();
    for hook in cluster.on_change.iter() {
        if let Some(why) = program::missing(&hook.command) {
            let sentence = format!("on_change: {why}; until then it is not run");
            if !sentences.contains(&sentence) {
                sentences.push(sentence);
            }
        }
    }
    sentences
}

/// The checks of a virtual service and of its real servers, with the place in the file.
fn checks(service: &VirtualServiceConfig) -> impl Iterator<Item = (String, &CheckConfig)> {
    let place = format!("virtual service {}", service.name);
    let common = service.health.checks.iter().map(move |check| (place.clone(), check));
    let own = service.real_servers.iter().flat_map(move |server| {
        let place = format!("virtual service {}: real server {}", service.name, server.name);
        server.checks.iter().flat_map(|checks| checks.iter()).map(move |check| (place.clone(), check))
    });
    common.chain(own)
}

/// Many checks may need the same file: it is looked at once, and reported once.
#[derive(Default)]
struct Found {
    tls: HashMap<tls::Key, Option<String>>,
    commands: Vec<(Command, Option<String>)>,
    reasons: Vec<Reason>,
}

struct Reason {
    /// Where it was found first.
    place: String,
    why: String,
    count: usize,
}

impl Reason {
    fn sentence(self) -> String {
        let Reason { place, why, count } = self;
        let more = match count {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        format!(
            "{place}{more}: {why}; until then the check cannot be made, and its real servers keep their state"
        )
    }
}

impl Found {
    fn look_at(&mut self, place: String, config: &CheckConfig) {
        // A valid configuration can be built.
        let Ok(check) = (config.row.build)(&config.options) else { return };
        let why = match (check.tls(), check.command()) {
            (Some(tls), _) => self.of_tls(&tls),
            (None, Some(command)) => self.of_command(command),
            (None, None) => None,
        };
        let Some(why) = why else { return };
        match self.reasons.iter_mut().find(|reason| reason.why == why) {
            Some(reason) => reason.count += 1,
            None => {
                let place = format!("{place}: check {}", config.row.name);
                self.reasons.push(Reason { place, why, count: 1 });
            }
        }
    }

    fn of_tls(&mut self, tls: &Tls) -> Option<String> {
        let key = tls::Key::of(tls);
        self.tls.entry(key).or_insert_with_key(tls::Key::missing).clone()
    }

    fn of_command(&mut self, command: &Command) -> Option<String> {
        if let Some((_, why)) = self.commands.iter().find(|(known, _)| known == command) {
            return why.clone();
        }
        let why = program::missing(command);
        self.commands.push((command.clone(), why.clone()));
        why
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, plan};

    fn of(top: &str, service: &str, server: &str) -> Vec<String> {
        let text = format!(
            "{top}\n[[virtual_service]]\nname = \"web\"\nprotocol = \"tcp\"\nvip = \"172.25.3.100\"\nport = 80\n{service}\n\
             [[virtual_service.real_server]]\nrip = \"172.25.3.2\"\n{server}\n[[virtual_service]]\nname = \"api\"\n\
             protocol = \"tcp\"\nvip = \"172.25.3.100\"\nport = 81\n[[virtual_service.real_server]]\nrip = \"172.25.3.2\"\n"
        );
        let source = Source { name: "director.toml", text: &text };
        unready(&plan::director(&source, Some("eth0")).expect("a valid file").cluster)
    }

    const UNTIL: &str = "until then the check cannot be made, and its real servers keep their state";

    #[test]
    fn a_file_of_a_check_that_is_not_there_is_reported_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let absent = directory.path().join("absent.pem").display().to_string();
        let empty = directory.path().join("empty.pem").display().to_string();
        std::fs::write(&empty, "").unwrap();
        let fifo = directory.path().join("fifo").display().to_string();
        nix::unistd::mkfifo(fifo.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (path, why) in [
            (&absent, format!("cannot read {absent}: No such file or directory (os error 2)")),
            (&empty, format!("{empty} contains no certificate in PEM")),
            (&fifo, format!("{fifo} is no regular file")),
        ] {
            let check = format!("check = {{ type = \"https\", ca_file = \"{path}\" }}");
            assert_eq!(
                of("", &check, ""),
                [format!("virtual service web: check https: {why}; correct the path or the file; {UNTIL}")]
            );
            assert_eq!(
                of("", "", &check),
                [format!(
                    "virtual service web: real server 172.25.3.2: check https: {why}; correct the path or the file; {UNTIL}"
                )]
            );
            let client = format!(
                "check = {{ type = \"tls\", verify = false, cert_file = \"{path}\", key_file = \"{path}\" }}"
            );
            assert_eq!(of("", &client, "").len(), 1, "{client}");
        }
        assert_eq!(of("", "check = [\"https\", \"tcp\"]", ""), Vec::<String>::new());
    }

    #[test]
    fn a_reason_is_reported_once_for_all_checks_that_have_it() {
        let check = "check = { type = \"exec\", command = [\"/absent\"] }";
        let why = "there is no program /absent; name its whole path";
        let expected = format!("virtual service web: check exec (and 1 more): {why}; {UNTIL}");
        assert_eq!(of(check, "", ""), [expected]);
        let expected = format!("virtual service web: check exec (and 2 more): {why}; {UNTIL}");
        assert_eq!(of(check, "", check), [expected]);
    }

    #[test]
    fn a_program_of_on_change_and_its_user_are_looked_up() {
        let hook = |keys: &str| of(&format!("on_change = {{ {keys} }}"), "", "");
        assert_eq!(
            hook("command = [\"/absent\"]"),
            ["on_change: there is no program /absent; name its whole path; until then it is not run"]
        );
        assert_eq!(
            hook("command = [\"/bin/sh\"], user = \"absent-name\""),
            ["on_change: there is no user absent-name on this host; until then it is not run"]
        );
        assert_eq!(hook("command = [\"/bin/sh\"]"), Vec::<String>::new());
        let two = "on_change = [{ when = \"quorum_lost\", command = [\"/absent\"] }, { when = \"quorum_gained\", command = [\"/absent\"] }]";
        assert_eq!(of(two, "", "").len(), 1);
    }
}
