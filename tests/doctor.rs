//! `lvs-tund doctor` in the lab: a real fault on a real host, and the finding that names it. A finding that is missing, or
//! that is one too many, fails.

#[path = "doctor/checks.rs"]
mod checks;
#[path = "doctor/director.rs"]
mod director;
#[path = "doctor/firewall.rs"]
mod firewall;
#[path = "doctor/fixture.rs"]
mod fixture;
#[path = "doctor/realserver.rs"]
mod realserver;
#[path = "doctor/via.rs"]
mod via;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use lvs_tund::lab;

type Test = fn() -> fixture::Outcome;

const TESTS: &[(&str, Test)] = &[
    ("healthy_hosts_have_no_finding_to_act_on", director::healthy),
    ("real_servers_behind_a_router_are_healthy", director::routed),
    ("a_director_that_does_not_run_is_one_error", director::not_running),
    ("a_file_that_is_missing_or_wrong_is_refused", director::refused),
    ("a_rip_that_nobody_has_is_named", director::nobody_has_the_rip),
    ("a_gateway_that_does_not_answer_is_named", director::no_gateway),
    ("a_host_that_answers_arp_for_the_vip_is_named", director::another_owner),
    ("a_real_server_that_answers_arp_for_the_vip_is_named", director::real_server_owns_the_vip),
    ("two_directors_for_one_vip_are_noticed", director::two_directors),
    ("changes_that_were_not_made_are_named_one_by_one", director::no_host_changes),
    ("a_path_that_loses_long_packets_in_silence_is_measured", director::silent_path_mtu),
    ("weights_of_0_are_noticed_in_the_file_and_in_the_running_director", director::weights),
    ("a_real_server_without_its_daemon_is_named", director::no_companion),
    ("an_interface_that_is_down_is_named", director::interface_down),
    ("a_real_server_whose_application_is_stopped_is_explained", checks::application_stopped),
    ("a_real_server_that_has_not_bound_the_vip_is_explained", checks::vip_not_bound),
    ("a_real_server_whose_daemon_is_stopped_is_explained", checks::companion_stopped),
    ("a_packet_through_the_tunnel_is_delivered_and_no_host_answers_it", via::delivered),
    ("without_the_daemon_the_packet_through_the_tunnel_is_refused", via::no_daemon),
    ("a_daemon_that_drops_the_packet_through_the_tunnel_names_its_reason", via::dropped),
    ("where_nothing_can_be_compared_that_is_a_warning", via::unknown),
    ("a_real_server_of_another_vip_refuses", realserver::wrong_vip),
    ("a_real_server_of_another_director_names_the_one_it_receives_from", realserver::wrong_director),
    ("a_real_server_of_other_services_refuses", realserver::wrong_services),
    ("an_application_that_is_down_is_noticed", realserver::application_down),
    ("an_application_on_the_rip_only_is_named", realserver::application_on_the_rip),
    ("a_real_server_without_its_daemon_is_one_error", realserver::not_running),
    ("arp_that_announces_the_vip_is_noticed", realserver::announcing),
    ("a_strict_filter_on_the_device_is_noticed", realserver::strict_filter),
];

/// Those that need a program which not every machine has.
const WITH_NFT: &[(&str, Test)] = &[
    ("a_forward_policy_that_drops_is_named_with_its_cure", firewall::forward_policy),
    ("a_stateful_firewall_on_the_director_lets_the_clients_packets_pass", firewall::stateful),
    ("the_rules_of_a_killed_director_disappear_with_it", firewall::exemption_of_a_killed_director),
    ("connection_tracking_that_drops_is_named_with_its_cure", firewall::conntrack),
    ("an_input_that_drops_what_comes_back_to_the_host_is_named_with_its_cure", firewall::passed),
    ("an_output_that_drops_protocol_4_is_named_with_its_cure", firewall::output),
    ("a_real_server_that_drops_protocol_4_is_named_with_its_cure", firewall::input_protocol_4),
    ("a_packet_through_the_tunnel_that_is_filtered_does_not_arrive", via::filtered),
    ("a_real_server_that_drops_its_service_is_named_with_its_cure", firewall::input_service),
];

const WITH_IPTABLES: &[(&str, Test)] =
    &[("rules_of_iptables_are_read_with_their_own_program", firewall::iptables)];

fn main() -> ExitCode {
    let entered = lab::enter().and_then(|_| lab::require_tun()).err().map(|error| error.to_string());
    let groups =
        [(TESTS, &[][..]), (WITH_NFT, &["nft"][..]), (WITH_IPTABLES, &["nft", "iptables-nft-save"][..])];
    let mut trials = Vec::new();
    for (tests, programs) in groups {
        let is_ignored = !programs.iter().all(|program| fixture::is_installed(program));
        for &(name, test) in tests {
            let missing = entered.clone();
            let run = move || missing.map_or_else(test, |missing| Err(missing.into()));
            trials.push(Trial::test(name, run).with_ignored_flag(is_ignored));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
