//! The control-plane tier: CRDs, admission policies, chart and operator on a real API server, scheduler and controller-manager.
//!
//! The chart is installed by Helm, the operator's binary runs with the token of its service account, and nodes are objects that an
//! agent's real identity writes. One control plane serves all tests; each test has namespaces, fabrics and nodes of its own.

mod admission;
mod bad_input;
mod bad_records;
mod chart;
mod claims;
mod fabric_edits;
mod fabrics;
mod guards;
mod indices;
mod ledger;
mod networks;
mod operator_rights;
mod operators;
mod plugin;
mod quotas;
mod records;
mod refusals;
mod rest;
mod restored;
mod samples;
mod scheduling;
mod schema;
mod schemas;
mod simulated_node;
mod slices;
mod teardown;
mod templates;
mod tenants;
mod way;
mod workloads;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use libtest_mimic::{Arguments, Failed, Trial};
use railhead_e2e::control_plane::cluster::{Cluster, Identity, SYSTEM};
use railhead_e2e::control_plane::operator::Operator;
use railhead_e2e::control_plane::programs::Programs;
// The tests' modules call them by these names.
pub(crate) use railhead_e2e::control_plane::{cluster, helm_release, install, operator};
use railhead_e2e::lab::Lab;
use railhead_e2e::lab::cache::Cache;
use railhead_e2e::lab::pins::Pins;
use railhead_e2e::lab::prepare::Parts;
use railhead_e2e::lab::progress::{say, step};

/// Name of the lab that this tier starts and stops. `RAILHEAD_TESTS_LAB` names another, so that two of them run side by side.
static LAB: LazyLock<String> =
    LazyLock::new(|| std::env::var("RAILHEAD_TESTS_LAB").unwrap_or_else(|_| "tests".to_owned()));
/// The tests wait more than they compute.
const THREADS: usize = 4;
/// A test that took this many seconds is named.
const LONG: f64 = 8.0;

/// The tests are over, and with them the simulated nodes' heartbeats.
static DONE: AtomicBool = AtomicBool::new(false);

/// What the tests share.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) programs: Programs,
    /// The operator's service account.
    pub(crate) operator_account: Identity,
}

/// A test by its name.
type Test = (&'static str, fn(&World) -> Result<()>);

/// Names the functions of a module as tests.
macro_rules! tests {
    ($($module:ident: [$($name:ident),* $(,)?]),* $(,)?) => {
        vec![$($((concat!(stringify!($module), "::", stringify!($name)), $module::$name as fn(&World) -> Result<()>)),*),*]
    };
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(shared(), None)).exit_code();
    }
    if let Some(reason) = cannot_run() {
        println!("SKIP control plane: {reason}");
        return if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    arguments.test_threads.get_or_insert(THREADS);
    let outcome = run(&arguments);
    if std::env::var_os("RAILHEAD_KEEP").is_some() {
        say(format!(
            "left running because RAILHEAD_KEEP is set: lab --name {} kubectl get tnet -A",
            *LAB
        ));
    } else if let Err(error) = Lab::down(&LAB) {
        eprintln!("the control plane was not stopped: {error:#}");
        return ExitCode::FAILURE;
    }
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("control plane: could not be set up: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Why this machine cannot run the tier.
fn cannot_run() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("it starts programs in a network namespace, which needs root".to_owned());
    }
    let parts = Cache::open().and_then(|cache| Parts::expected(&cache, &Pins::load()?));
    match parts {
        Err(error) => Some(format!("{error:#}")),
        Ok(parts) => {
            let missing = parts
                .missing(false)
                .or_else(|| Some(&parts.helm).filter(|helm| !helm.is_dir()))?;
            Some(format!(
                "{} is not built yet: run `lab prepare` first",
                missing.display()
            ))
        }
    }
}

/// Tests that may run beside each other.
fn shared() -> Vec<Test> {
    tests![
        schema: [
            overlapping_pools_of_a_rail_are_refused,
            a_pool_that_is_no_network_address_is_refused,
            one_port_on_two_rails_is_refused,
            a_pci_address_is_accepted_as_lspci_prints_it_or_refused_with_a_sentence,
            nccl_settings_are_names_and_values_of_one_line,
            the_largest_fabric_is_accepted,
            an_attachment_names_uids,
            a_node_selector_that_would_select_every_node_is_refused,
            vlan_0_is_refused,
            vlan_5000_is_refused,
            a_reversed_vlan_range_is_refused,
            binary_bandwidth_is_refused,
            a_maximum_below_the_guarantee_is_refused,
            a_largest_guarantee_below_the_guarantee_is_refused,
            a_smallest_guarantee_above_the_guarantee_is_refused,
            an_allow_list_that_would_allow_every_namespace_is_refused,
            a_network_of_0_pods_is_refused,
            a_name_that_is_too_long_is_refused,
            a_network_grows_up_to_the_next_power_of_two_and_never_shrinks,
            a_network_with_max_pods_grows_and_shrinks_within_it,
            roles_and_groups_that_do_not_fit_are_refused,
            roles_and_groups_that_would_move_indices_are_refused,
            every_field_has_text_for_kubectl_explain,
            the_quickstart_is_accepted_as_it_stands,
        ],
        chart: [
            an_install_without_an_image_repository_says_what_to_set,
            an_unknown_value_is_refused,
            the_runtimes_folders_are_values,
            a_class_can_be_changed_added_and_left_out,
            helm_waits_for_the_quickstart_and_returns,
            a_namespace_that_would_refuse_the_pods_is_told_before_anything_is_made,
        ],
        admission: [
            one_label_gives_the_claim_to_containers_and_plain_init_containers,
            what_a_container_claims_already_is_kept,
            a_pod_that_was_mutated_before_is_not_changed_again,
            a_pod_without_the_label_is_not_touched,
            the_label_with_host_network_is_refused,
            a_label_that_can_be_no_networks_name_is_refused,
            the_annotation_without_the_label_is_refused,
            a_claim_entry_of_our_name_from_elsewhere_is_refused,
            a_label_that_another_policy_writes_late_is_refused,
            a_pod_claims_rails_once_and_only_with_the_label,
            a_copy_of_a_pod_without_its_labels_is_refused_with_the_next_step,
            the_label_of_a_pod_cannot_change,
            the_pods_of_a_job_are_admitted,
            a_label_cannot_come_with_the_binding_to_a_node,
            the_claim_of_another_pod_is_refused,
            a_copy_of_a_jobs_pod_is_refused_with_its_labels_too,
            what_makes_more_pods_than_its_network_has_places_is_refused,
        ],
        guards: [
            a_tenant_with_every_right_in_its_namespace_cannot_write_records,
            a_tenant_with_the_edit_role_may_make_networks,
            not_even_the_administrator_writes_the_ledger,
            an_agent_takes_indices_for_its_own_node_only,
            an_agent_takes_an_index_under_its_own_name_only,
            an_agent_reports_its_own_node_only,
            an_agent_publishes_its_own_devices_only,
            a_token_without_a_node_writes_nothing,
            the_garbage_collector_still_collects,
            a_namespace_that_is_deleted_waits_for_the_node_that_runs_its_pod,
            what_a_node_held_is_free_when_the_node_is_gone_or_out_of_service,
        ],
        claims: [
            a_tenant_cannot_claim_rails_by_hand,
            the_template_of_a_network_goes_with_it_whatever_a_tenant_does,
            an_agent_says_what_claims_of_its_own_node_got,
            lists_of_indices_are_answered_out_of_the_api_servers_memory,
            the_policy_confines_an_agent_where_the_api_server_does_not,
        ],
        operator_rights: [
            the_operator_writes_two_annotations_of_pods_and_nothing_else,
            the_operator_writes_no_specs_of_people_and_no_templates_of_others,
        ],
        templates: [
            a_template_whose_network_is_gone_is_taken_away,
            nothing_is_released_while_a_finalizer_holds_the_template,
        ],
        fabrics: [
            a_fabric_without_nodes_says_so,
            a_fabric_whose_ports_no_node_has_says_which_are_missing,
            a_fabric_shows_its_nodes_and_what_is_free,
            a_fabric_in_use_is_not_deleted,
            a_node_that_is_selected_no_more_gives_back_first,
            a_fabric_is_gone_when_its_nodes_are_as_before,
            pools_that_overlap_across_rails_are_refused,
        ],
        fabric_edits: [
            of_two_fabrics_with_the_same_addresses_the_younger_gives_nothing,
            a_drained_pool_gives_nothing_new_and_goes,
            a_typo_in_a_pool_is_undone_by_the_next_apply,
            an_edit_against_a_live_network_is_named_and_counts_for_no_new_one,
            a_rail_or_vlan_that_is_taken_from_a_live_network_is_named,
            a_port_that_moves_under_attached_pods_waits_for_them,
            a_pool_inside_the_service_range_is_not_used,
        ],
        networks: [
            a_network_gets_one_block_on_every_rail,
            a_network_grows_in_its_block_and_one_that_cannot_goes_on_and_says_why,
            a_network_without_a_fabric_gets_the_default_one,
            a_label_that_names_no_network_is_answered_with_the_nearest_name,
            an_index_beyond_the_network_is_told,
            deleting_a_network_gives_everything_back,
            deleting_a_network_under_pods_waits_and_says_so,
            a_pod_that_waits_for_an_index_is_woken_when_it_is_free,
            a_network_is_ready_before_its_job_is_applied_and_after_that_ended,
            pods_for_which_no_index_is_left_are_named_and_told,
        ],
        refusals: [
            a_network_larger_than_the_pool_is_told_the_numbers,
            no_vlan_is_left,
            more_bandwidth_than_any_port_has_is_refused,
            more_bandwidth_than_the_class_allows_is_refused,
            less_bandwidth_than_the_class_allows_is_refused,
            a_whole_port_is_more_than_the_default_class_lets_a_network_guarantee,
            a_refused_network_gives_no_claims_until_there_is_room,
            an_unknown_fabric_is_named,
            an_unknown_class_is_named,
            a_rail_that_the_fabric_lacks_is_named,
            a_foreign_template_of_our_name_is_not_taken_over,
        ],
        tenants: [
            a_class_is_for_the_namespaces_that_its_labels_name,
            a_fabric_is_for_the_namespaces_that_its_labels_name,
        ],
        quotas: [
            what_is_beyond_a_quota_waits_and_the_oldest_gets_it_first,
            a_quota_below_use_alters_no_slice_and_lets_nothing_grow,
            a_quota_is_read_by_its_tenants_and_written_by_the_platform_team,
            a_quota_without_a_limit_or_with_absurd_ones_is_refused,
            two_operators_that_both_lead_stay_within_a_quota,
        ],
        ledger: [
            an_entry_that_was_taken_out_comes_back_and_its_block_is_not_given_away,
            a_slice_whose_block_the_ledger_gives_to_another_is_told_both_names,
            a_ledger_of_a_later_release_is_left_as_it_is_and_said_to_its_networks,
            a_ledger_that_cannot_be_read_keeps_no_other_from_being_written,
            an_entry_has_base_and_size_or_intervals,
            a_fabric_that_is_gone_gets_no_ledger_and_leaves_none,
            a_quarantined_slice_takes_no_new_pods_until_nobody_else_has_its_block,
        ],
        slices: [
            a_slice_of_the_first_release_stays_as_it_is,
            a_rail_of_a_slice_has_prefixes_in_their_pools_of_one_family_each,
            a_slice_changes_its_pods_within_its_block_and_its_guarantee_and_nothing_else,
        ],
        restored: [
            what_nodes_still_have_is_given_to_nobody_and_all_are_asked_first,
            a_ledger_that_counts_backwards_gives_nothing_before_its_nodes_have_answered,
            what_is_given_back_hides_no_restored_ledger,
        ],
        rest: [
            a_vlan_that_was_given_back_rests_before_another_network_gets_it,
            what_rests_does_so_for_a_fabric_that_is_applied_anew,
        ],
        scheduling: [
            a_pod_gets_one_port_per_rail_with_its_guarantee,
            a_port_is_never_oversold_and_the_event_says_what_is_free,
            a_quota_bounds_what_the_pods_of_a_namespace_hold,
            a_pod_older_than_its_network_is_scheduled,
        ],
        workloads: [
            a_job_on_real_agents_gets_its_indices_and_gives_all_back,
            an_index_outlives_the_programs_of_its_node,
        ],
        indices: [
            the_jobs_of_a_jobset_and_its_launcher_get_their_indices_in_the_order_of_roles,
            two_replicated_jobs_without_roles_are_told_what_to_write,
            a_stateful_set_keeps_its_addresses_and_is_told_of_pods_beyond_the_network,
            a_network_with_max_pods_grows_and_shrinks_while_its_pods_run,
            two_groups_of_a_leader_worker_set_are_told_to_say_groups,
            a_number_that_somebody_edited_is_refused,
        ],
        plugin: [
            the_plugin_explains_who_is_attached_who_waits_and_for_whom,
            the_plugin_names_the_right_that_is_missing_and_the_name_that_was_meant,
            the_plugin_says_in_one_sentence_that_there_is_no_cluster,
        ],
        records: [
            what_contradicts_is_found_and_what_is_safe_is_repaired_by_who_may,
            what_is_planned_is_what_is_reserved_then,
        ],
        operators: [
            two_operators_that_both_lead_reserve_nothing_twice,
            the_metrics_tell_what_was_done,
        ],
    ]
}

/// Tests that stop or change what the others use; they run one by one, in this order.
fn alone() -> Vec<Test> {
    tests![
        networks: [two_classes_that_want_to_be_the_default_say_so_as_long_as_there_are_two],
        operators: [a_follower_takes_over_and_keeps_what_is_reserved],
        guards: [a_group_named_for_emergencies_may_write_records_after_an_upgrade],
        bad_input: [
            an_absurd_network_is_refused_or_answered_and_the_operator_lives,
            an_absurd_fabric_is_refused_or_answered_and_so_are_its_networks,
        ],
        bad_records: [an_absurd_ledger_is_refused_or_answered_and_gives_nothing_twice],
        schemas: [definitions_that_are_older_are_said_and_nothing_is_reserved_by_halves],
        teardown: [
            teardown_is_refused_while_a_pod_is_attached,
            a_pod_that_comes_during_the_teardown_ends_it,
            an_operator_that_does_not_end_is_started_again,
            a_teardown_that_fails_takes_back_what_it_began,
            a_teardown_without_an_api_server_says_what_stays_begun,
            nodes_of_a_deleted_fabric_are_waited_for,
            teardown_gives_everything_back,
            a_release_whose_namespace_was_deleted_is_installed_again_and_all_goes_on,
        ],
    ]
}

fn trials(tests: Vec<Test>, world: Option<&'static World>) -> Vec<Trial> {
    let trial = |(name, test): Test| {
        Trial::test(name, move || {
            let world = world.ok_or("there is no control plane")?;
            let start = Instant::now();
            let result = test(world).map_err(|error| Failed::from(format!("{error:#}")));
            let took = start.elapsed().as_secs_f64();
            if took >= LONG {
                say(format!("{name} took {took:.1} s"));
            }
            result
        })
    };
    tests.into_iter().map(trial).collect()
}

/// Sets everything up, runs the tests, and says whether all passed.
fn run(arguments: &Arguments) -> Result<bool> {
    let programs = step("building operator, hollow nodes and plugin", Programs::build)?;
    Lab::down(&LAB)?;
    let lab = Lab::up(&LAB, 0)?;
    // One thread enters the lab's network, and with it every thread that it makes. This one stays outside, to end the lab later.
    let inside = thread::spawn({
        let arguments = arguments.clone();
        move || {
            lab.enter_netns()?;
            run_inside(&arguments, lab, programs)
        }
    });
    inside.join().map_err(|_| anyhow!("the tests' runner panicked"))?
}

fn run_inside(arguments: &Arguments, lab: Lab, programs: Programs) -> Result<bool> {
    let cluster = Cluster::new(lab)?;
    step("installing the chart", || install(&cluster))?;
    let operator_account = cluster.service_account(SYSTEM, "railhead-operator", None)?;
    let leader = Operator::start(
        &cluster,
        &programs.operator,
        &operator_account,
        "operator-a",
        "railhead-operator",
        operators::LEADER_PORT,
    )?;
    // The tests' threads borrow it until the process ends.
    let world: &'static World = Box::leak(Box::new(World {
        cluster,
        programs,
        operator_account,
    }));
    operators::LEADER
        .set(Mutex::new(Some(leader)))
        .map_err(|_| ())
        .expect("only this line sets it");
    let heart = thread::spawn(move || {
        while !DONE.load(Ordering::Relaxed) {
            simulated_node::heartbeat(&world.cluster).ok();
            thread::sleep(Duration::from_secs(10));
        }
    });
    let together = libtest_mimic::run(arguments, trials(shared(), Some(world)));
    let one_by_one = Arguments {
        test_threads: Some(1),
        ..arguments.clone()
    };
    let single = libtest_mimic::run(&one_by_one, trials(alone(), Some(world)));
    DONE.store(true, Ordering::Relaxed);
    heart.join().ok();
    operators::stop_leader();
    let passed = together.num_passed + single.num_passed;
    let failed = together.num_failed + single.num_failed;
    println!("control plane: {passed} passed, {failed} failed");
    if failed > 0 {
        world.cluster.lab.show_logs();
    }
    if passed + failed == 0 {
        bail!("no test has a name that matches {:?}", arguments.filter);
    }
    Ok(failed == 0)
}
