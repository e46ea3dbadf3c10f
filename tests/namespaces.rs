//! The real binary in the lab: directors, real servers and clients that are network namespaces, packets that are
//! packets. Every test builds a lab of its own and ends with the conservation of packets.

#[path = "namespaces/answers.rs"]
mod answers;
#[path = "namespaces/attacks.rs"]
mod attacks;
#[path = "namespaces/checks.rs"]
mod checks;
#[path = "namespaces/control.rs"]
mod control;
#[path = "namespaces/converted.rs"]
mod converted;
#[path = "namespaces/crowd.rs"]
mod crowd;
#[path = "namespaces/dead_server.rs"]
mod dead_server;
#[path = "namespaces/devices.rs"]
mod devices;
#[path = "namespaces/failing.rs"]
mod failing;
#[path = "namespaces/fixture.rs"]
mod fixture;
#[path = "namespaces/forwarding.rs"]
mod forwarding;
#[path = "namespaces/health.rs"]
mod health;
#[path = "namespaces/host_state.rs"]
mod host_state;
#[path = "namespaces/interfaces.rs"]
mod interfaces;
#[path = "namespaces/ipvsadm.rs"]
mod ipvsadm;
#[path = "namespaces/journal.rs"]
mod journal;
#[path = "namespaces/lifecycle.rs"]
mod lifecycle;
#[path = "namespaces/local_server.rs"]
mod local_server;
#[path = "namespaces/local_vip.rs"]
mod local_vip;
#[path = "namespaces/losses.rs"]
mod losses;
#[path = "namespaces/misfortune.rs"]
mod misfortune;
#[path = "namespaces/mtu.rs"]
mod mtu;
#[path = "namespaces/narrowed.rs"]
mod narrowed;
#[path = "namespaces/passed.rs"]
mod passed;
#[path = "namespaces/path.rs"]
mod path;
#[path = "namespaces/plane.rs"]
mod plane;
#[path = "namespaces/probing.rs"]
mod probing;
#[path = "namespaces/refusals.rs"]
mod refusals;
#[path = "namespaces/reported_weight.rs"]
mod reported_weight;
#[path = "namespaces/returning.rs"]
mod returning;
#[path = "namespaces/second_owner.rs"]
mod second_owner;
#[path = "namespaces/serving.rs"]
mod serving;
#[path = "namespaces/surroundings.rs"]
mod surroundings;
#[path = "namespaces/vip_deleted.rs"]
mod vip_deleted;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use lvs_tund::lab;

type Test = fn() -> fixture::Outcome;

const TESTS: &[(&str, Test)] = &[
    ("real_servers_in_the_clients_subnet_take_turns", forwarding::same_subnet),
    ("real_servers_in_other_subnets_take_turns", forwarding::routed),
    ("a_routed_director_with_strict_filters_takes_clients_from_everywhere", forwarding::strict_filters),
    ("the_outer_packets_are_those_of_rfc_2003", forwarding::outer_packets),
    ("the_outer_packet_of_one_that_may_be_fragmented_has_an_identification", forwarding::fragmentable),
    ("datagrams_of_one_client_port_stay_on_their_server", forwarding::udp),
    ("large_datagrams_arrive_whole", forwarding::large_datagrams),
    ("two_hundred_connections_each_stay_on_their_server", forwarding::many_connections),
    ("an_upload_larger_than_the_path_learns_its_mtu", forwarding::upload),
    ("a_path_narrower_than_the_directors_link_is_learned_within_a_round_trip", path::narrow),
    ("a_forged_too_big_does_not_lower_the_path_mtu", path::forged),
    ("with_ignore_df_no_client_gets_an_error_and_everything_arrives", path::ignore_df),
    ("a_host_without_a_daemon_becomes_suspect", path::suspect),
    ("time_exceeded_on_the_path_becomes_host_unreachable", path::expired),
    ("an_echo_in_fragments_comes_back_whole", path::large_echo),
    ("traceroute_to_the_vip_shows_the_director_and_the_vip", path::traceroute),
    ("vips_and_services_come_and_go_by_command", control::vips_come_and_go),
    ("a_hundred_reloads_under_load_lose_nothing", control::reloads_under_load),
    ("a_file_that_cannot_be_applied_changes_nothing", control::bad_files),
    ("only_one_of_two_concurrent_writers_wins", control::two_writers),
    ("a_drained_real_server_keeps_its_connections_until_the_deadline", control::drains),
    ("zero_resets_listings_but_not_prometheus_counters", control::listings),
    ("the_running_configuration_can_be_loaded_again", control::configurations),
    ("a_malformed_request_gets_a_clear_error", control::bad_requests),
    ("with_no_host_changes_nothing_is_changed", forwarding::no_host_changes),
    ("a_vip_on_the_directors_loopback_is_captured_by_rule", || local_vip::captured_by_rule("lo")),
    ("a_vip_on_the_directors_interface_is_captured_by_rule", || local_vip::captured_by_rule("eth0")),
    ("a_vip_may_come_to_the_director_and_leave_it_under_traffic", local_vip::change_over),
    ("a_backup_is_silent_and_resets_nothing_when_the_vip_comes", local_vip::backup),
    ("capture_by_rule_loses_nothing_when_the_vip_comes_and_goes", local_vip::forced_rule),
    ("capture_by_route_can_be_forced", local_vip::forced_route),
    ("ssh_to_the_directors_own_address_goes_on_beside_a_virtual_service", || passed::own_address("auto")),
    ("ssh_to_the_directors_own_address_goes_on_where_the_rule_is_forced", || passed::own_address("rule")),
    ("a_bgp_directors_own_address_is_still_answered_for_while_it_is_a_vip", passed::never_announced),
    ("the_directors_host_serves_a_vip_on_its_interface", || local_server::shares("eth0")),
    ("the_directors_host_serves_a_vip_on_its_loopback", || local_server::shares("lo")),
    ("a_real_server_on_the_host_waits_for_the_vip", local_server::waits_for_the_vip),
    ("a_companion_on_a_backup_does_not_take_the_vip_from_the_master", local_server::companion_of_a_backup),
    ("connections_to_a_killed_real_server_wait_until_it_is_back", lifecycle::real_server_killed),
    ("a_stopped_director_leaves_its_host_as_it_was", lifecycle::director_stopped),
    ("every_termination_signal_stops_a_daemon_cleanly", lifecycle::signals),
    ("a_director_ends_within_a_second_under_traffic", lifecycle::director_stopped_under_traffic),
    ("a_restarted_director_resets_the_connections_it_no_longer_knows", lifecycle::director_restarted),
    ("a_killed_director_leaves_no_route_and_no_address", lifecycle::director_killed),
    (
        "a_new_director_takes_over_from_a_killed_one_with_a_local_vip",
        lifecycle::director_with_local_vip_killed,
    ),
    (
        "a_directors_device_that_another_program_takes_is_put_right_and_no_connection_ends",
        devices::of_director,
    ),
    ("a_real_servers_device_that_another_program_takes_is_put_right", devices::of_real_server),
    ("a_device_whose_name_is_taken_is_missing_until_the_name_is_free", devices::taken),
    ("a_directors_interface_that_is_taken_out_and_put_in_again_is_used_again", devices::interface_replaced),
    ("a_directors_interface_that_is_renamed_is_followed", devices::interface_renamed),
    ("outer_packets_have_the_directors_new_address_within_a_second", devices::renumbered),
    ("a_director_outlives_its_interface_going_down", lifecycle::interface_down_and_up),
    ("a_kill_a_start_and_a_stop_leave_the_host_as_before_the_first_start", journal::killed),
    ("a_kill_at_any_moment_of_a_start_is_undone_by_the_next", journal::killed_while_starting),
    ("what_an_operator_sets_after_a_kill_stays", journal::set_after_a_kill),
    ("routing_that_is_turned_on_while_a_daemon_runs_survives_its_stop", journal::routing_turned_on),
    ("a_value_set_while_a_director_runs_is_what_its_stop_puts_back", journal::set_while_running),
    ("a_director_with_another_device_undoes_what_a_killed_one_left", journal::another_device),
    ("without_a_usable_journal_the_daemons_work_and_warn", journal::unusable),
    ("clients_on_two_interfaces_of_the_director_are_served", interfaces::two),
    ("packets_for_a_vip_on_an_interface_that_is_not_captured_are_named", interfaces::elsewhere),
    ("a_vip_at_a_virtual_ethernet_address_is_captured_there_and_only_answered_there", interfaces::vmac),
    ("a_stopped_real_server_leaves_its_host_as_it_was", lifecycle::real_server_stopped),
    ("a_second_director_on_the_same_device_is_refused", lifecycle::second_director),
    ("a_second_director_for_the_same_vip_does_no_harm", lifecycle::second_director_with_its_own_device),
    ("a_syn_ack_from_the_vip_leaves_room_for_the_outer_header", mtu::announced),
    ("packets_for_which_the_device_has_no_room_are_counted", losses::of_device),
    ("packets_for_which_the_socket_has_no_room_are_counted", losses::of_socket),
    ("an_upload_needs_no_icmp", mtu::icmp_eaten),
    ("an_upload_through_a_path_that_only_the_operator_knows_needs_no_icmp", mtu::narrow_path),
    ("an_upload_over_the_real_servers_own_narrow_link_needs_no_icmp", mtu::narrow_link),
    ("the_routes_of_a_killed_real_server_do_no_harm", mtu::killed),
    ("a_packet_tunnelled_by_a_stranger_is_dropped_silently", answers::stranger),
    ("a_port_without_a_service_is_refused_at_once", answers::no_service),
    ("a_port_without_a_service_can_be_silent", answers::no_service_silent),
    ("a_service_without_a_usable_real_server_answers_unreachable", answers::no_real_server),
    ("an_echo_to_the_vip_is_answered", answers::echo),
    ("a_segment_of_an_unknown_connection_is_reset", answers::unknown_segment),
    ("a_real_server_that_does_not_answer_arp_is_unreachable", answers::unreachable_real_server),
    ("a_real_server_without_a_route_is_counted", answers::real_server_without_route),
    ("a_route_to_a_real_server_into_the_device_makes_no_loop", answers::route_into_the_device),
    ("the_classic_recipe_typed_at_an_empty_director_balances", ipvsadm::recipe),
    ("weight_0_by_command_quiesces_and_a_deleted_service_is_refused_at_once", ipvsadm::quiesce),
    ("json_log_lines_are_objects", control::log_for_programs),
    ("a_listing_is_consistent_while_others_write", ipvsadm::lists_while_others_write),
    ("announcing_a_thousand_vips_delays_no_request", control::many_vips),
    ("silent_clients_and_listeners_take_no_place_of_others", control::busy),
    ("a_cleared_table_refuses_at_once_and_lets_the_vip_go_later", ipvsadm::cleared_elsewhere),
    ("a_cleared_table_refuses_at_once_where_the_vip_is_local", ipvsadm::cleared),
    ("a_restore_is_one_step_and_no_list_shows_half_of_it", ipvsadm::restore),
    ("established_connections_outlive_a_table_that_is_cleared_and_filled_again", returning::by_commands),
    ("established_connections_outlive_a_reload_without_their_service", returning::by_reload),
    ("a_connection_whose_service_does_not_come_back_is_reset_after_the_grace", returning::not_at_all),
    ("every_verb_of_ipvsadm_works_on_a_running_director", ipvsadm::verbs),
    ("an_application_that_ends_gets_no_new_clients_and_a_program_is_told", checks::application_down),
    ("a_vip_without_a_healthy_real_server_is_not_announced", checks::announced_while_healthy),
    (
        "a_real_server_says_whether_it_unwraps_and_which_vips_are_bound",
        checks::real_server_says_what_it_serves,
    ),
    ("a_director_is_ready_while_packets_flow_and_otherwise_gives_the_reason", health::director),
    ("a_backup_without_the_vip_is_ready", health::backup),
    ("a_director_without_a_virtual_service_is_alive_and_not_ready", health::empty),
    ("a_real_server_without_its_vip_is_not_ready", health::real_server),
    ("a_real_server_that_does_not_answer_is_reported_everywhere_and_logged_once", health::suspect),
    ("packets_that_the_kernel_refuses_are_counted_with_their_real_server", health::no_route),
    ("the_status_of_a_real_server_shows_directors_strangers_and_applications", health::real_server_status),
    ("a_vip_that_is_the_hosts_own_is_refused_and_one_on_the_interface_warned_of", health::vip_elsewhere),
    ("another_host_with_the_vip_is_named_and_counted", second_owner::named),
    ("a_log_that_cannot_be_written_stops_nothing", attacks::broken_log),
    ("neither_idle_nor_slow_clients_take_the_places_of_others", attacks::clients_that_want_all_places),
    ("a_process_without_files_left_takes_one_from_an_idle_client", attacks::few_files),
    ("a_configuration_without_an_end_delays_its_own_reload_only", attacks::endless_configuration),
    ("a_request_with_the_name_of_another_host_is_refused", attacks::another_hosts_name),
    ("a_running_daemon_has_the_capabilities_that_it_uses_and_no_others", attacks::capabilities),
    ("outer_packets_for_everyone_are_refused", attacks::outer_destinations),
    ("broken_surroundings_end_a_daemon_in_order_or_do_not_matter", surroundings::broken),
    (
        "every_command_ends_quietly_with_its_reader_and_fails_on_a_full_disk",
        surroundings::outputs_of_commands,
    ),
    ("save_replaces_files_and_writes_to_everything_else", surroundings::saved_to_anything),
    ("a_director_outlives_the_directory_of_its_control_socket", surroundings::control_directory_gone),
    ("a_check_reaches_each_real_server_wherever_the_vip_is", probing::everywhere),
    ("a_standby_director_checks_the_real_servers_too", probing::standby),
    ("a_check_that_fails_says_why_at_once", probing::failures),
    ("the_end_of_a_check_leaves_no_connection_at_the_real_server", probing::reset),
    ("checks_take_a_failed_real_server_out_in_the_time_that_the_configuration_allows", failing::times),
    ("a_killed_companion_is_noticed_with_the_next_packet", failing::companion_killed),
    ("a_sorry_server_serves_while_quorum_is_lost", failing::sorry_server),
    ("a_vip_deleted_at_a_real_server_is_told_and_restored", vip_deleted::told_and_restored),
    ("all_real_servers_serve_while_too_few_are_up", failing::fail_open),
    ("a_recovered_real_server_starts_slowly", failing::slow_start),
    ("a_path_that_has_become_narrower_fails_the_check_of_its_mtu", failing::narrow_path),
    ("a_path_that_loses_large_packets_in_silence_is_measured_and_used", narrowed::in_silence),
    ("a_path_whose_router_reports_its_size_is_measured_and_used", narrowed::with_a_report),
    ("a_standby_director_sees_through_the_tunnel_who_is_up", serving::standby),
    ("a_director_that_takes_over_sends_its_first_clients_to_those_that_are_up", serving::takes_over),
    ("the_exit_code_of_a_program_is_the_weight_of_its_real_server", reported_weight::by_program),
    ("the_line_of_an_agent_is_the_weight_of_its_real_server", reported_weight::by_agent),
    ("checks_and_clients_are_served_where_the_vip_is_the_directors", serving::local_vip),
    ("a_real_server_on_the_directors_host_is_checked", serving::local_real_server),
    ("programs_are_told_once_of_each_change_in_its_order", serving::programs_are_told),
    (
        "programs_run_for_the_state_at_the_start_and_for_the_end_of_the_director",
        serving::programs_know_start_and_end,
    ),
    ("no_one_answers_for_a_vip_without_quorum_wherever_it_is", serving::announced_while_healthy),
    ("commands_disable_enable_and_check_and_status_shows_the_reason", serving::commands),
    ("reloads_keep_the_states_and_counts_of_checks", serving::reloads),
    ("a_warning_about_the_file_is_logged_once", serving::warnings),
    ("clients_are_served_from_a_converted_keepalived_conf", converted::keepalived),
    ("connections_flows_and_persistence_of_a_dead_server_go_where_on_down_says", dead_server::moves),
    ("a_thousand_probes_a_second_cost_clients_at_full_load_no_packet", crowd::load),
    ("hundreds_of_states_change_in_time_and_once_when_all_fall_silent_and_are_back", crowd::silent_at_once),
    ("an_application_that_behaves_badly_is_down_in_words", misfortune::odd_applications),
    ("a_director_that_stops_leaves_no_probe_open_at_a_real_server", misfortune::stopped),
    ("probes_that_cannot_be_opened_change_no_state", misfortune::no_descriptors),
    ("all_real_servers_down_at_once_come_back_at_once", misfortune::all_at_once),
    ("checks_go_on_with_the_directors_new_address", misfortune::renumbered),
    ("an_impossible_configuration_is_refused", refusals::configuration),
    ("a_conflict_with_the_host_is_refused_and_rolled_back", refusals::host),
    ("a_missing_interface_or_a_taken_port_is_reported", refusals::missing),
    ("without_the_tun_driver_the_daemons_report_it_and_create_no_node", refusals::no_driver),
    ("root_in_a_user_namespace_can_run_the_demo", refusals::user_namespace),
    ("without_privilege_the_daemons_say_what_they_need", refusals::no_privilege),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let (role, rest) = (arguments.get(1), arguments.get(2..).unwrap_or_default());
    for (word, is_root) in [(refusals::WITHOUT_PRIVILEGE, false), (refusals::IN_USER_NAMESPACE, true)] {
        if role.is_some_and(|role| role == word) {
            return refusals::run_in_user_namespace(is_root, rest);
        }
    }
    let entered = lab::enter().and_then(|_| lab::require_tun()).err().map(|error| error.to_string());
    let trials = TESTS.iter().map(|&(name, test)| {
        let missing = entered.clone();
        Trial::test(name, move || missing.map_or_else(test, |missing| Err(missing.into())))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
