//! The lab tier: Railhead as its users meet it, on a real Kubernetes with two SR-IOV nodes.
//!
//! The tests run one after the other on one lab. What they claim they have seen in the pods, the nodes' kernels, on the wire
//! or at the API server. `RAILHEAD_KEEP=1` leaves the lab running, and the next run uses it as it is: for work on a test.

mod agents;
mod api_cut;
mod bandwidth;
mod claim_status;
mod cni_folder;
mod drift;
mod ends;
mod fabrics;
mod indices;
mod jobs;
mod lost_node;
mod memlock;
mod offers;
mod old_conflist;
mod other_driver;
mod pods;
mod power;
mod quickstart;
mod restarts;
mod sandboxes;
mod step_faults;
mod tenants;
mod uninstall;
mod world;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use railhead_e2e::lab::{
    DEFAULT_NAME, Lab,
    cache::Cache,
    pins::Pins,
    prepare::Parts,
    progress::{say, step},
};

use world::World;

/// A test by its name.
type Test = (&'static str, fn(&World) -> Result<()>);

/// Names the functions of modules as tests.
macro_rules! tests {
    ($($module:ident::$name:ident),* $(,)?) => {
        vec![$((concat!(stringify!($module), "::", stringify!($name)), $module::$name as fn(&World) -> Result<()>)),*]
    };
}

/// In the order in which they run: most of them share one job, which the first that needs it makes.
fn tests() -> Vec<Test> {
    if std::env::var_os("RAILHEAD_SLOW").is_some() {
        return tests![
            api_cut::pods_that_start_while_the_api_server_is_silent_run_when_it_speaks_again,
            step_faults::every_step_on_real_vfs_may_be_the_last_one,
            tenants::rdma_cm_works_over_a_pods_own_device_and_the_device_of_another_tenant_cannot_be_opened,
            other_driver::a_pod_whose_other_driver_is_missing_holds_nothing_and_ends,
            restarts::pods_of_a_job_made_again_run_soon_after_those_before_have_ended,
            // Node 2 starts anew.
            lost_node::what_pods_of_a_dark_node_hold_is_given_away_only_when_the_node_is_out_of_service,
        ];
    }
    tests![
        quickstart::the_quickstart_job_gets_what_the_objects_declare_and_gives_it_back,
        agents::operator_and_agents_stay_small,
        offers::a_function_with_an_address_is_left_out,
        memlock::a_pod_without_rights_registers_half_a_gigabyte_and_one_without_rails_keeps_the_nodes_limit,
        drift::a_pulled_cable_under_a_running_pod_is_said_within_a_minute,
        sandboxes::a_sandbox_made_again_is_wired_as_before,
        indices::an_index_keeps_its_addresses_on_another_pod_and_another_node,
        tenants::two_networks_on_the_same_nodes_cannot_reach_each_other,
        tenants::a_claim_copied_from_another_namespace_gets_nothing,
        indices::a_pod_beyond_the_network_does_not_start_and_the_others_run,
        sandboxes::a_plan_cut_in_half_stops_the_sandbox_and_the_pod_can_be_deleted,
        agents::pods_stay_wired_without_the_agents_and_a_deleted_one_is_given_back_when_they_return,
        sandboxes::a_sandbox_that_nobody_wired_runs_no_container,
        old_conflist::pods_start_and_end_under_a_conflist_of_version_0_3_0,
        cni_folder::a_cni_folder_that_is_a_symlink_may_move,
        uninstall::helm_uninstall_is_refused_while_pods_are_attached,
        bandwidth::a_pod_that_would_oversell_a_port_waits_until_there_is_room,
        ends::a_network_deleted_under_its_pods_waits_for_them,
        fabrics::nodes_without_a_fabric_or_without_its_ports_are_left_as_they_were,
        // From here on the nodes have other functions than those that were recorded.
        drift::functions_that_are_removed_under_a_running_pod_are_said_within_a_minute,
        power::a_node_that_lost_its_power_brings_the_same_pod_back_with_the_same_addresses,
        uninstall::helm_uninstall_leaves_the_nodes_as_they_were,
    ]
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    if let Some(reason) = cannot_run() {
        println!("SKIP lab: {reason}");
        return if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    let outcome = run(&arguments);
    if std::env::var_os("RAILHEAD_KEEP").is_some() {
        say("left running because RAILHEAD_KEEP is set: ./target/debug/lab kubectl get tnet -A");
    } else if let Err(error) = Lab::down(DEFAULT_NAME) {
        eprintln!("the lab was not taken down: {error:#}");
        return ExitCode::FAILURE;
    }
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("lab: could not be set up: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Why this machine cannot run the tier.
fn cannot_run() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("it makes a network namespace with bridges and machines, which needs root".to_owned());
    }
    match Cache::open().and_then(|cache| Parts::expected(&cache, &Pins::load()?)) {
        Err(error) => Some(format!("{error:#}")),
        Ok(parts) => parts
            .missing(true)
            .map(|missing| format!("{} is not built yet: run `lab prepare` first", missing.display())),
    }
}

/// Sets everything up, runs the tests, and says whether all passed.
fn run(arguments: &Arguments) -> Result<bool> {
    let world = World::set_up().inspect_err(|_| {
        if let Ok(lab) = Lab::attach() {
            railhead_e2e::installation::show_logs(&lab);
        }
    })?;
    // The tests borrow it until the process ends.
    let world: &'static World = Box::leak(Box::new(world));
    let conclusion = libtest_mimic::run(arguments, trials(Some(world)));
    if conclusion.has_failed() {
        railhead_e2e::installation::show_logs(&world.lab);
    }
    Ok(!conclusion.has_failed() && conclusion.num_passed > 0)
}

fn trials(world: Option<&'static World>) -> Vec<Trial> {
    let trial = |(name, test): Test| {
        Trial::test(name, move || {
            let world = world.ok_or("there is no lab")?;
            // The runner tells reasons at its very end only.
            let result = step(name, || test(world)).inspect_err(|error| say(format!("{name}: {error:#}")));
            result.map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    tests().into_iter().map(trial).collect()
}
