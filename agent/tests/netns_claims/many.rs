//! Many pods at once, and two agents.

use railhead_agent::{
    claims::NodeClaims,
    kubelet::{ClaimRef, Claims},
};
use railhead_host::testing::in_a_namespace;

use crate::{asks_prepare, asks_unprepare, bed::ports::Ports};

/// All pods of a job come at once, to both agents of a rolling update, and there are just as many VFs as they need.
#[test]
fn a_burst_of_pods_has_every_vf_once() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 4, 8);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let agents = [ports.agent(), ports.agent()];
            for round in 0..20 {
                let claims: Vec<ClaimRef> = (0..4).map(|pod| ports.add_pod(&format!("pod-{pod}"), None)).collect();
                let at_once = claims.iter().enumerate().map(|(n, claim)| {
                    let (agent, claim) = (agents[n % 2].clone(), claim.clone());
                    tokio::spawn(asks_prepare(agent, claim))
                });
                for prepared in futures::future::join_all(at_once).await {
                    let prepared = prepared.unwrap();
                    assert!(prepared.is_ok(), "round {round}: {prepared:?}");
                }
                for claim in &claims {
                    ports.assert_prepared(claim, &format!("round {round}"));
                }
                assert_eq!(ports.plans().len(), 4, "round {round}");
                for claim in claims {
                    asks_unprepare(agents[0].clone(), claim).await.unwrap();
                }
                ports.assert_as_before(&format!("round {round}"));
            }
        });
    });
}

/// Two agents of a rolling update serve the same folders and both hear of everything, as when kubelet asks one and then the other.
#[test]
fn two_agents_that_race_for_claims_leak_nothing_and_give_nothing_twice() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 2, 4);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (one, two) = (NodeClaims::new(ports.agent()), NodeClaims::new(ports.agent()));
            for round in 0..100 {
                let claims = [ports.add_pod("llama-a", None), ports.add_pod("llama-b", None)];
                let [a, b] = &claims;
                let prepared = tokio::join!(
                    one.prepare(a.clone()),
                    two.prepare(a.clone()),
                    two.prepare(b.clone()),
                    one.prepare(b.clone())
                );
                for prepared in [&prepared.0, &prepared.1, &prepared.2, &prepared.3] {
                    assert!(prepared.is_ok(), "round {round}: {prepared:?}");
                }
                for claim in &claims {
                    ports.assert_prepared(claim, &format!("round {round}"));
                }
                assert_eq!(ports.holders().len(), 2, "round {round}: {:?}", ports.holders());
                let released = tokio::join!(
                    one.unprepare(a.clone()),
                    two.unprepare(a.clone()),
                    two.unprepare(b.clone()),
                    one.unprepare(b.clone())
                );
                for released in [&released.0, &released.1, &released.2, &released.3] {
                    assert!(released.is_ok(), "round {round}: {released:?}");
                }
                ports.assert_as_before(&format!("round {round}"));
            }
        });
    });
}
