//! The real kernel, real NATs, real programs: stories in namespaces, one after the other.
//!
//! `cargo test --test network` runs all, `cargo test --test network -- punch` those whose names
//! contain `punch`, and `-- --matrix` measures pairs of NATs instead (`cargo matrix`). No root is
//! needed where ordinary users may make user namespaces. There is no harness: the namespaces must be entered before
//! the first thread, so this file is its own runner.

#[path = "network/attacker.rs"]
#[expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a story ends at the first thing that is not as told, and waits for one thing among many"
)]
mod attacker;
#[path = "network/capture.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod capture;
#[path = "network/circuits.rs"]
#[expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a story ends at the first thing that is not as told, and waits for one thing among many"
)]
mod circuits;
#[path = "network/flooder.rs"]
#[expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a story ends at the first thing that is not as told, and waits for one thing among many"
)]
mod flooder;
#[path = "network/floods.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod floods;
#[path = "network/history.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod history;
#[path = "network/internet/backbone.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod internet;
#[path = "network/joining.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod joining;
#[path = "network/laboratory.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod laboratory;
#[path = "network/lives.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod lives;
#[path = "network/local.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod local;
#[path = "network/mapping.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod mapping;
#[path = "network/matrix/run.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod matrix;
#[path = "network/meeting.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod meeting;
#[path = "network/node.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod node;
#[path = "network/paths.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod paths;
#[path = "network/policy.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod policy;
#[path = "network/revoking.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod revoking;
#[path = "network/roads.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod roads;
#[path = "network/rotation.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod rotation;
#[path = "network/sites.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod sites;
#[path = "network/sizes.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod sizes;
#[path = "network/stream.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod stream;
#[path = "network/traffic.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod traffic;
#[path = "network/wire.rs"]
#[expect(
    clippy::unwrap_used,
    reason = "a story ends at the first thing that is not as told"
)]
mod wire;

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use meshnode::lab::{Entry, Lab, Stopwatch, World};

/// One story: its claim and how it is proved.
struct Story {
    claim: &'static str,
    tell: fn(&World),
}

/// A list of stories by the names of their functions.
macro_rules! stories {
    ($($room:ident :: $claim:ident),* $(,)?) => {
        &[$(Story { claim: concat!(stringify!($room), "::", stringify!($claim)), tell: $room::$claim }),*]
    };
}

const STORIES: &[Story] = stories![
    laboratory::machines_on_one_switch_reach_each_other,
    laboratory::a_machine_without_a_gateway_reaches_its_own_network_only,
    laboratory::a_machine_has_its_own_host_name_and_loopback,
    laboratory::an_unplugged_machine_hears_nothing_until_it_is_plugged_in_again,
    laboratory::a_machine_can_move_to_another_switch,
    laboratory::both_address_families_work_at_once,
    laboratory::multicast_stays_in_its_own_lan,
    laboratory::a_program_ends_with_its_machine_even_when_detached,
    laboratory::a_program_stops_when_asked,
    laboratory::nothing_is_left_when_a_laboratory_is_dropped,
    laboratory::nothing_is_left_after_kill_9,
    laboratory::an_interrupted_world_ends_with_130,
    traffic::a_nat_keeps_the_port_when_it_is_free,
    traffic::a_router_drops_what_nobody_asked_for,
    traffic::two_machines_behind_two_nats_do_not_reach_each_other_unsolicited,
    traffic::two_machines_behind_two_nats_punch_when_both_send,
    traffic::an_early_packet_does_not_spoil_the_mapping,
    traffic::tcp_goes_out_through_a_nat_and_back,
    sites::each_kind_of_nat_is_what_it_says,
    sites::a_mapping_is_reached_from_inside_only_with_hairpin,
    sites::only_what_may_leave_a_site_leaves_it,
    sites::two_nats_in_a_row_count_as_the_stricter,
    sites::ipv6_needs_no_nat_and_passes_as_the_site_says,
    sites::mappings_end_when_they_should,
    sites::a_machine_moves_to_another_site_with_its_sockets,
    sites::a_nat_that_counts_is_foreseen,
    sites::many_sockets_meet_many_ports,
    sites::an_uplink_delays_loses_and_narrows_as_told,
    sites::a_narrow_link_says_so_unless_it_is_a_black_hole,
    sites::a_router_that_maps_ports_lets_strangers_in,
    matrix::forty_of_forty_five_pairs_can_be_direct,
    matrix::every_kind_of_pair_meets_as_it_can,
    joining::a_machine_joins_on_a_lan_without_internet_and_pings_within_ten_seconds,
    joining::a_code_redeems_at_any_member_while_its_maker_is_off,
    joining::a_code_for_one_machine_lets_no_second_one_in,
    joining::an_expired_code_lets_nobody_in,
    joining::fake_network_rejected,
    joining::a_code_comes_by_stdin_and_a_second_join_does_nothing,
    joining::a_taken_name_gets_a_suffix_and_a_given_name_wins,
    joining::thirty_machines_join_one_after_another_and_all_hold_the_same,
    attacker::join_relay_gets_nothing,
    attacker::join_m1_without_psk_silent,
    attacker::noise_on_every_port_disturbs_nothing,
    floods::a_member_that_floods_is_borne_and_everything_else_goes_on,
    floods::strangers_that_flood_the_control_port_are_borne_and_everything_else_goes_on,
    lives::a_node_boots_alone_with_its_addresses_and_can_invite,
    lives::nothing_acknowledged_is_lost_by_fifteen_power_cuts,
    lives::two_networks_on_one_lan_keep_to_themselves,
    lives::two_daemons_on_one_machine_do_not_fight,
    lives::who_leaves_is_gone_everywhere_within_two_seconds,
    lives::the_only_admin_leaves_by_force_only,
    lives::down_survives_a_restart_and_up_undoes_it,
    lives::a_member_works_with_its_clock_in_1970,
    lives::a_joiner_with_its_clock_in_1970_is_told_and_costs_no_invite,
    history::a_member_exports_what_two_readers_verify_and_its_log_tells_who_let_it_in,
    history::a_node_that_lost_its_store_has_it_back_from_a_file_alone,
    history::a_file_of_another_network_or_with_a_wrong_bit_is_not_taken,
    revoking::a_revocation_cuts_live_traffic_within_two_seconds,
    revoking::who_was_off_obeys_when_it_is_back,
    revoking::who_waits_is_approved_or_refused_by_an_admin,
    revoking::a_second_admin_carries_on_when_the_founder_is_off,
    revoking::all_nodes_of_an_owner_are_put_out_in_one_act,
    revoking::what_a_stolen_admin_signed_since_then_falls_with_it,
    revoking::two_of_three_trustees_bring_a_network_back,
    revoking::a_new_network_key_reaches_everybody_and_traffic_goes_on,
    revoking::the_phrase_makes_another_node_an_admin,
    sizes::packets_are_as_long_as_the_path_is_proven_to_carry,
    rotation::a_new_tunnel_key_is_in_force_at_once_and_traffic_goes_on,
    rotation::a_new_tunnel_key_is_told_through_the_tunnel_itself_where_nothing_else_leads,
    local::a_blocked_node_has_no_traffic_until_it_is_unblocked_and_its_word_still_comes,
    local::probes_of_a_node_that_is_blocked_or_down_come_to_an_end,
    local::a_card_says_by_which_invite_witness_and_admin_a_node_is_in,
    local::waiting_ends_when_a_node_answers_and_not_before,
    paths::two_sites_behind_nats_talk_directly_and_go_on_without_the_introducer,
    paths::netcheck_says_what_others_see_and_who_was_spoken_to,
    paths::a_node_that_gets_another_address_is_found_again,
    paths::a_node_that_moves_behind_another_nat_is_found_again,
    paths::two_nodes_meet_where_only_ipv6_is,
    mapping::a_router_with_upnp_alone_leads_packets_here_until_the_end,
    mapping::a_router_with_pcp_and_nat_pmp_leads_packets_here_until_the_end,
    mapping::a_router_with_every_method_maps_once,
    mapping::a_router_that_does_not_know_pcp_is_asked_by_nat_pmp,
    mapping::a_program_that_was_killed_has_its_mapping_again,
    mapping::a_router_within_another_one_maps_nothing,
    mapping::what_a_router_answers_is_believed_only_where_it_makes_sense,
    mapping::a_upnp_device_that_is_not_the_router_is_not_believed,
    mapping::a_node_behind_a_router_that_maps_is_joined_from_behind_another_nat,
    mapping::a_node_that_is_told_not_to_asks_no_router,
    circuits::two_that_may_only_call_tcp_443_are_linked_by_a_volunteers_circuit,
    circuits::two_nodes_that_reach_a_volunteer_alone_talk_by_it,
    circuits::two_nodes_that_may_only_call_tcp_443_talk_by_a_circuit,
    meeting::a_newcomer_finds_a_member_by_a_relay_that_learns_no_name,
    circuits::a_relay_that_was_killed_is_home_again_when_it_is_back,
    roads::two_nodes_behind_a_box_that_passes_tls_alone_talk_by_a_circuit,
    roads::two_nodes_that_reach_a_proxy_alone_talk_by_a_circuit,
    roads::a_proxy_that_refuses_is_named_with_what_would_help,
    roads::what_begins_as_tls_and_is_none_is_cut_and_others_are_served,
    policy::a_policy_is_in_force_everywhere_at_once_and_cuts_only_what_it_denies,
    policy::a_friend_reaches_one_service_and_everybody_else_what_they_did,
    policy::a_policy_on_trial_is_undone_on_every_node_even_after_a_kill,
    policy::tags_and_a_first_policy_leave_everybody_reaching_everybody,
    policy::a_renamed_node_is_known_by_its_new_name_everywhere,
    policy::only_an_admin_sets_a_policy_and_a_faulty_one_names_its_place,
    wire::wire_has_no_ids,
    wire::two_that_both_moved_find_each_other_by_a_strangers_dht,
    wire::a_member_that_was_off_finds_all_at_other_addresses_and_catches_up,
];

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(laboratory::HOLD) {
        return laboratory::hold();
    }
    match World::enter() {
        Ok(Entry::Inside(world)) => {
            if std::env::args().nth(1).as_deref() == Some(matrix::WORD) {
                return matrix::main(&world);
            }
            run(&world, &Wish::from_arguments())
        }
        Ok(Entry::Over(code)) => ExitCode::from(code),
        Err(error) => {
            say(&format!("error: {error}\n"));
            for hint in error.hints() {
                say(&format!("hint: {hint}\n"));
            }
            ExitCode::FAILURE
        }
    }
}

/// What the person typed after `--`: the part of the standard harness that tools rely on.
#[derive(Default)]
struct Wish {
    filters: Vec<String>,
    skipped: Vec<String>,
    exact: bool,
    list: bool,
}

impl Wish {
    fn from_arguments() -> Self {
        let mut wish = Self::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--exact" => wish.exact = true,
                "--list" => wish.list = true,
                "--skip" => wish.skipped.extend(words.next()),
                "--test-threads" | "--format" | "--color" | "-Z" => drop(words.next()),
                flag if flag.starts_with('-') => {}
                _ => wish.filters.push(word),
            }
        }
        wish
    }

    fn takes(&self, claim: &str) -> bool {
        let fits = |filter: &String| {
            if self.exact {
                claim == filter
            } else {
                claim.contains(filter.as_str())
            }
        };
        (self.filters.is_empty() || self.filters.iter().any(fits)) && !self.skipped.iter().any(fits)
    }
}

fn run(world: &World, wish: &Wish) -> ExitCode {
    let chosen: Vec<_> = STORIES
        .iter()
        .filter(|story| wish.takes(story.claim))
        .collect();
    if wish.list {
        chosen
            .iter()
            .for_each(|story| say(&format!("{}: test\n", story.claim)));
        return ExitCode::SUCCESS;
    }
    let watch = Stopwatch::start();
    say(&format!("\nrunning {} tests\n", chosen.len()));
    let mut failed = Vec::new();
    for story in &chosen {
        say(&format!("test {} ... ", story.claim));
        let story_watch = Stopwatch::start();
        let ended = catch_unwind(AssertUnwindSafe(|| (story.tell)(world)));
        let verdict = if ended.is_ok() { "ok" } else { "FAILED" };
        say(&format!(
            "{verdict} ({:.1} s)\n",
            story_watch.elapsed().as_secs_f32()
        ));
        let figures = node::FIGURES
            .lock()
            .map(|mut figures| std::mem::take(&mut *figures));
        figures
            .unwrap_or_default()
            .iter()
            .for_each(|figure| say(figure));
        if ended.is_err() {
            failed.push(story.claim);
        }
    }
    if !failed.is_empty() {
        say("\nfailures:\n");
        failed
            .iter()
            .for_each(|claim| say(&format!("    {claim}\n")));
    }
    say(&format!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        chosen.len() - failed.len(),
        failed.len(),
        STORIES.len() - chosen.len(),
        watch.elapsed().as_secs_f32(),
    ));
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(101)
    }
}

/// A fresh laboratory.
fn lab(world: &World) -> Lab {
    Lab::new(world).expect("a laboratory can be made in a world")
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    // A closed pipe is no reason to stop proving.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
