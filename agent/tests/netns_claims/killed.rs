//! Agents that are killed at any request to the API server.

use railhead_host::testing::in_a_namespace;

use crate::{asks_prepare, asks_unprepare, bed::ports::Ports, collect, prepare, unprepare};

/// What comes after an agent was killed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// kubelet asks the next agent for the same again, and later for the end of it.
    Again,
    /// The pod was deleted meanwhile.
    Unprepare,
    /// Nobody asks any more: pod and claim are gone.
    Collector,
}

pub(crate) const WAYS: [Way; 3] = [Way::Again, Way::Unprepare, Way::Collector];

#[test]
fn a_prepare_killed_at_any_request_leaves_nothing_whatever_comes_next() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 1, 4);
        let mut killed = 0;
        for done in [false, true] {
            for n in 0.. {
                let mut ended = false;
                for way in WAYS {
                    let when = format!("killed at request {n} (done: {done}), then {way:?}");
                    let claim = ports.add_pod("llama-2", Some(2));
                    let prepared = ports.run_until(n, done, |agent| asks_prepare(agent, claim.clone()));
                    ended = prepared.is_some();
                    killed += usize::from(!ended);
                    match way {
                        Way::Again => {
                            prepare(&ports, &claim);
                            ports.assert_prepared(&claim, &when);
                            unprepare(&ports, &claim);
                        }
                        Way::Unprepare => unprepare(&ports, &claim),
                        Way::Collector => collect(&ports, &claim),
                    }
                    ports.assert_as_before(&when);
                }
                if ended {
                    break;
                }
            }
        }
        // Claim, pod, network, slice and attachment at least, three ways each, before and after.
        assert!(killed >= 5 * 3 * 2, "{killed} cases");
    });
}

#[test]
fn an_unprepare_killed_at_any_request_leaves_nothing_whatever_comes_next() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 1, 4);
        let mut killed = 0;
        for done in [false, true] {
            for n in 0.. {
                let mut ended = false;
                for way in WAYS {
                    let when = format!("killed at request {n} (done: {done}), then {way:?}");
                    let claim = ports.add_pod("llama-2", Some(2));
                    prepare(&ports, &claim);
                    let released = ports.run_until(n, done, |agent| asks_unprepare(agent, claim.clone()));
                    ended = released.is_some();
                    killed += usize::from(!ended);
                    match way {
                        Way::Again => {
                            prepare(&ports, &claim);
                            ports.assert_prepared(&claim, &when);
                            unprepare(&ports, &claim);
                        }
                        Way::Unprepare => unprepare(&ports, &claim),
                        Way::Collector => collect(&ports, &claim),
                    }
                    ports.assert_as_before(&when);
                }
                if ended {
                    break;
                }
            }
        }
        assert!(killed >= 3 * 2, "{killed} cases");
    });
}
