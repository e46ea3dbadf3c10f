//! Warnings about checks, and about the programs of `on_change`.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::suggest::nearest;
use crate::director::cluster::{ClusterConfig, VirtualServiceConfig};
use crate::health::{CheckConfig, Hook, Transport, When};
use crate::packet::Protocol;

/// The warnings about the checks of a virtual service and of its real servers.
pub(super) fn warnings(service: &VirtualServiceConfig) -> Vec<String> {
    let own = service.real_servers.iter().flat_map(|server| {
        let place = format!("virtual service {}: real server {}", service.name, server.name);
        server.checks.iter().flat_map(|checks| checks.iter()).map(move |check| (place.clone(), check))
    });
    let place = format!("virtual service {}", service.name);
    let common = service.health.checks.iter().map(|check| (place.clone(), check));
    let all = common.chain(own);
    all.flat_map(|(place, check)| {
        let found = [slow(check), other_protocol(check, service)];
        found.into_iter().flatten().map(move |text| format!("{place}: check {}{text}", check.row.name))
    })
    .collect()
}

fn slow(check: &CheckConfig) -> Option<String> {
    let shown = |time: Duration| humantime::format_duration(time);
    (check.timeout > check.interval).then(|| {
        format!(
            " has a timeout longer than its interval ({} and {}): while a probe waits, the next one is not sent; raise \
             interval, or lower timeout",
            shown(check.timeout),
            shown(check.interval)
        )
    })
}

/// A check on the port of the clients that another protocol carries: it tests another socket than theirs.
fn other_protocol(check: &CheckConfig, service: &VirtualServiceConfig) -> Option<String> {
    let (carrier, remedy) = match (check.row.transport)(&check.options) {
        Transport::Tcp | Transport::Tls if check.row.name == "dns" => {
            (Protocol::Tcp, "remove transport = \"tcp\"")
        }
        Transport::Tcp | Transport::Tls => (
            Protocol::Tcp,
            "use check = \"udp\", \"dns\" or \"icmp\", or name the TCP port to check with port",
        ),
        Transport::Udp if check.row.name == "dns" => (Protocol::Udp, "set transport = \"tcp\""),
        Transport::Udp => (Protocol::Udp, "use check = \"tcp\", or name the UDP port to check with port"),
        Transport::Icmp | Transport::Command => return None,
    };
    let matchers = &service.matchers;
    let is_of_clients = |port: u16| matchers.iter().any(|matcher| matcher.ports.contains(port));
    let is_elsewhere = check.address.is_some() || check.port.is_some_and(|port| !is_of_clients(port));
    let served = matchers.first()?.protocol;
    if is_elsewhere || matchers.iter().any(|matcher| matcher.protocol == carrier) {
        return None;
    }
    let (carrier, served) = (carrier.name().to_uppercase(), served.name().to_uppercase());
    Some(format!(
        " uses {carrier}, and the virtual service is for {served}: it does not show whether clients are served; {remedy}"
    ))
}

/// The warnings about the programs of `on_change` that are never run.
pub(super) fn of_hooks(cluster: &ClusterConfig) -> Vec<String> {
    let services = &cluster.virtual_services;
    cluster.on_change.iter().filter_map(|hook| never_run(hook, services)).collect()
}

fn never_run(hook: &Hook, services: &[VirtualServiceConfig]) -> Option<String> {
    let program = hook.command.arguments.first().map_or("", String::as_str);
    let warning = |filter: String, text: String| {
        Some(format!("on_change: {filter}: {text}, so that {program} is never run; correct or remove it"))
    };
    if let Some(name) = &hook.virtual_service
        && !services.iter().any(|service| service.name == *name)
    {
        let hint = nearest(name, services.iter().map(|service| &*service.name));
        let hint = hint.map_or(String::new(), |hint| format!(" (did you mean \"{hint}\"?)"));
        let filter = format!("virtual_service = \"{name}\"");
        return warning(filter, format!("no virtual service in the file has this name{hint}"));
    }
    let rip = hook.real_server?;
    let filter = format!("real_server = \"{rip}\"");
    if !hook.when.is_empty() && !hook.when.iter().any(|when| is_of_real_server(*when)) {
        return warning(filter, "quorum is a matter of a virtual service, not of a real server".to_owned());
    }
    let is_for = |service: &&VirtualServiceConfig| {
        hook.virtual_service.as_ref().is_none_or(|name| service.name == *name)
    };
    let has = |service: &VirtualServiceConfig, rip: IpAddr| {
        service.real_servers.iter().any(|server| server.rip == rip)
    };
    if services.iter().filter(is_for).any(|service| has(service, rip)) {
        return None;
    }
    let place =
        hook.virtual_service.as_ref().map_or("the file".to_owned(), |name| format!("virtual service {name}"));
    warning(filter, format!("no real server of {place} has this address"))
}

fn is_of_real_server(when: When) -> bool {
    matches!(when, When::RealServerDown | When::RealServerUp)
}

#[cfg(test)]
mod tests {
    use super::super::director;
    use crate::config::{Source, plan};

    /// The warnings for two virtual services; `web` has real servers 172.25.3.2 and .3, `dns` has .4.
    fn advice(top: &str, web: &str, server: &str, dns: &str) -> Vec<String> {
        let text = format!(
            "{top}\n[[virtual_service]]\nname = \"web\"\nprotocol = \"tcp\"\nvip = \"172.25.3.100\"\nport = 80\n{web}\n\
             [[virtual_service.real_server]]\nrip = \"172.25.3.2\"\n{server}\n\
             [[virtual_service.real_server]]\nrip = \"172.25.3.3\"\n\
             [[virtual_service]]\nname = \"dns\"\nprotocol = \"udp\"\nvip = \"172.25.3.100\"\nport = 53\n{dns}\n\
             [[virtual_service.real_server]]\nrip = \"172.25.3.4\"\n"
        );
        let source = Source { name: "director.toml", text: &text };
        director(&plan::director(&source, Some("eth0")).expect("a valid file"))
    }

    #[test]
    fn a_check_over_another_protocol_than_the_clients_gives_a_warning() {
        let udp = "virtual service dns: check";
        let tcp = "virtual service web: check";
        let for_udp = "and the virtual service is for UDP: it does not show whether clients are served; ";
        let for_tcp = for_udp.replace("UDP", "TCP");
        let instead = "use check = \"udp\", \"dns\" or \"icmp\", or name the TCP port to check with port";
        for (kind, expected) in [
            ("\"tcp\"", format!("{udp} tcp uses TCP, {for_udp}{instead}")),
            ("\"https\"", format!("{udp} https uses TCP, {for_udp}{instead}")),
            ("{ type = \"http\", port = 53 }", format!("{udp} http uses TCP, {for_udp}{instead}")),
            (
                "{ type = \"dns\", transport = \"tcp\" }",
                format!("{udp} dns uses TCP, {for_udp}remove transport = \"tcp\""),
            ),
        ] {
            assert_eq!(advice("", "", "", &format!("check = {kind}")), [expected], "{kind}");
        }
        for (kind, remedy) in [
            ("udp", "use check = \"tcp\", or name the UDP port to check with port"),
            ("dns", "set transport = \"tcp\""),
        ] {
            let expected = format!("{tcp} {kind} uses UDP, {for_tcp}{remedy}");
            assert_eq!(advice("", &format!("check = \"{kind}\""), "", ""), [expected]);
        }
        let own = advice("", "", "check = \"dns\"", "");
        assert_eq!(own.len(), 1, "{own:?}");
        assert!(
            own[0].starts_with("virtual service web: real server 172.25.3.2: check dns uses UDP"),
            "{own:?}"
        );
    }

    #[test]
    fn a_check_of_the_clients_protocol_or_of_another_place_gives_no_warning() {
        for dns in [
            "check = \"udp\"",
            "check = \"dns\"",
            "check = \"icmp\"",
            "check = { type = \"exec\", command = [\"/bin/true\"] }",
            "check = { type = \"http\", port = 8080 }",
            "check = { type = \"tcp\", address = \"172.25.3.9\", via = \"direct\" }",
        ] {
            assert_eq!(advice("", "", "", dns), Vec::<String>::new(), "{dns}");
        }
        let both = "[[virtual_service]]\nname = \"both\"\nmatch = [\"tcp 172.25.3.101:53\", \"udp 172.25.3.101:53\"]\n\
                    check = [\"tcp\", \"dns\"]\n[[virtual_service.real_server]]\nrip = \"172.25.3.4\"\n";
        let source = Source { name: "director.toml", text: both };
        assert_eq!(
            director(&plan::director(&source, Some("eth0")).expect("a valid file")),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_timeout_longer_than_the_interval_gives_a_warning_wherever_the_check_stands() {
        let check = "check = { type = \"tcp\", interval = \"1s\", timeout = \"3s\" }";
        let text = "check tcp has a timeout longer than its interval (3s and 1s): while a probe waits, the next one is not \
                    sent; raise interval, or lower timeout";
        assert_eq!(advice("", check, "", ""), [format!("virtual service web: {text}")]);
        let expected = format!("virtual service web: real server 172.25.3.2: {text}");
        assert_eq!(advice("", "", check, ""), [expected]);
        let top = advice(&check.replace("tcp", "icmp"), "", "", "");
        let names: Vec<&str> = top.iter().filter_map(|text| text.split(':').next()).collect();
        assert_eq!(names, ["virtual service web", "virtual service dns"]);
        assert!(advice("", &check.replace("3s", "1s"), "", "").is_empty());
    }

    #[test]
    fn a_program_of_on_change_that_is_never_run_gives_a_warning() {
        let hook = |filters: &str| {
            advice(&format!("on_change = {{ {filters}, command = [\"/usr/local/bin/notify\"] }}"), "", "", "")
        };
        let end = ", so that /usr/local/bin/notify is never run; correct or remove it";
        let none =
            "on_change: real_server = \"172.25.3.4\": no real server of virtual service web has this address";
        for (filters, expected) in [
            (
                "virtual_service = \"wbe\"",
                "on_change: virtual_service = \"wbe\": no virtual service in the file has this name (did you mean \"web\"?)",
            ),
            (
                "virtual_service = \"mail\"",
                "on_change: virtual_service = \"mail\": no virtual service in the file has this name",
            ),
            (
                "real_server = \"172.25.3.9\"",
                "on_change: real_server = \"172.25.3.9\": no real server of the file has this address",
            ),
            ("virtual_service = \"web\", real_server = \"172.25.3.4\"", none),
            (
                "when = [\"quorum_lost\", \"quorum_gained\"], real_server = \"172.25.3.2\"",
                "on_change: real_server = \"172.25.3.2\": quorum is a matter of a virtual service, not of a real server",
            ),
        ] {
            assert_eq!(hook(filters), [format!("{expected}{end}")], "{filters}");
        }
        for filters in [
            "when = \"quorum_lost\"",
            "virtual_service = \"web\"",
            "real_server = \"172.25.3.4\"",
            "virtual_service = \"web\", real_server = \"172.25.3.3\"",
            "when = [\"quorum_lost\", \"real_server_up\"], real_server = \"172.25.3.2\"",
            "when = \"real_server_down\", real_server = \"172.25.3.2\"",
        ] {
            assert_eq!(hook(filters), Vec::<String>::new(), "{filters}");
        }
    }
}
