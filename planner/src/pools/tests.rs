use proptest::{prelude::*, sample::Index};
use railhead_crds::{LedgerOwner, Pool, SlicePrefix, SliceRail};
use serde_json::json;

use super::*;
use crate::{
    ledger::{
        Request, Wanted, empty, reserve,
        tests::{release_now, takes},
    },
    quota::Bounds,
    slots::tests::rail,
};

const NOBODY: &[NetworkSlice] = &[];

fn written(rails: &[Rail]) -> Written {
    Written::of(rails)
}

/// What a network of that many pods gets, if anything.
fn grant(
    ledger: &mut FabricLedgerSpec,
    slices: &[NetworkSlice],
    rails: &[Rail],
    uid: &str,
    pods: u32,
) -> Result<LedgerEntry, String> {
    let request = Request {
        owner: LedgerOwner::new("team-a", uid, uid),
        wanted: Wanted::Block {
            pods,
            takes: takes(pods),
            written: written(rails).into(),
        },
    };
    let mut outcome = reserve(ledger, slices, &[request], &Bounds::default());
    *ledger = outcome.ledger;
    outcome.results.remove(0).map_err(|refused| refused.to_string())
}

/// The slice of an entry on these rails of a Fabric, if it lies in their pools.
fn slice(ledger: &FabricLedgerSpec, entry: &LedgerEntry, rails: &[Rail], pods: u32) -> Option<NetworkSlice> {
    let space = recorded(rails, &of_entry(ledger, entry));
    let (base, size) = (entry.intervals[0].base, entry.intervals[0].size);
    let of_slice = |rail: &Rail| {
        let pool = space.pool(rail.id, base)?;
        Some(SliceRail {
            id: rail.id,
            name: rail.name.clone(),
            vlan: entry.vlan,
            prefixes: vec![SlicePrefix {
                prefix: space.prefix(rail.id, base, size)?.into(),
                pool: pool.net.into(),
                gateway: pool.gateway.map(Into::into),
            }],
        })
    };
    let of_slice: Option<Vec<SliceRail>> = rails.iter().map(of_slice).collect();
    let mut slice: NetworkSlice = serde_json::from_value(json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkSlice",
        "metadata": {"name": entry.owner.name, "namespace": "team-a"},
        "spec": {
            "network": {"name": entry.owner.name, "uid": entry.owner.uid},
            "fabric": {"name": "backend", "uid": "f-1", "mtu": 9000, "linkType": "RoCE", "softRoCE": "Never"},
            "pods": pods, "base": base, "capacity": size, "ledgerSequence": entry.sequence, "rails": [],
            "qos": {"className": "gold", "dscp": 26, "priority": 3, "guaranteed": "1G", "trust": false, "spoofCheck": true},
        },
    }))
    .unwrap();
    slice.spec.rails = of_slice?;
    Some(slice)
}

/// A fabric of two rails with a network of two pods on it.
fn in_use() -> (Vec<Rail>, FabricLedgerSpec, NetworkSlice) {
    let rails = vec![rail(0, &["10.0.0.0/28"]), rail(1, &["10.1.0.0/28"])];
    let mut ledger = empty();
    let entry = grant(&mut ledger, NOBODY, &rails, "llama", 2).unwrap();
    let slice = slice(&ledger, &entry, &rails, 2).unwrap();
    (rails, ledger, slice)
}

fn said(laid: &Laid) -> String {
    let conflicts = laid.conflicts.iter().map(ToString::to_string);
    let invalid = laid.invalid.iter().map(ToString::to_string);
    conflicts.chain(invalid).collect::<Vec<_>>().join("\n")
}

fn add(rails: &mut [Rail], pools: [&str; 2]) {
    for (rail, cidr) in rails.iter_mut().zip(pools) {
        let cidr = cidr.to_owned();
        rail.pools.push(Pool {
            cidr,
            ..rail.pools[0].clone()
        });
    }
}

#[test]
fn a_bad_pool_at_the_end_harms_no_other_and_is_undone_by_the_next_edit() {
    let (rails, ledger, llama) = in_use();
    let mut edited = rails.clone();
    add(&mut edited, ["10.1.0.0/28", "10.2.0.0/28"]);
    let laid = lay_out(&written(&edited), &ledger, &[&llama]);
    assert!(said(&laid).contains("10.1.0.0/28 of rail0 overlap"), "{}", said(&laid));
    let mut next = ledger.clone();
    let qwen = grant(&mut next, std::slice::from_ref(&llama), &edited, "qwen", 2).unwrap();
    assert_eq!(
        slice(&next, &qwen, &edited, 2).unwrap().spec.rails[1].prefixes[0]
            .pool
            .to_string(),
        "10.1.0.0/28"
    );
    let undone = lay_out(&written(&rails), &next, &[&llama]);
    assert_eq!((undone.invalid, undone.conflicts), (vec![], vec![]));
}

#[test]
fn a_pool_of_which_nobody_has_anything_may_change_and_go() {
    let (rails, ledger, llama) = in_use();
    let mut typo = rails.clone();
    add(&mut typo, ["10.20.0.0/28", "10.21.0.0/28"]);
    let mut corrected = rails.clone();
    add(&mut corrected, ["10.2.0.0/28", "10.3.0.0/28"]);
    for edited in [&typo, &corrected, &rails] {
        assert_eq!(said(&lay_out(&written(edited), &ledger, &[&llama])), "");
    }
    let mut next = ledger.clone();
    let large = grant(&mut next, &[llama], &corrected, "large", 16).unwrap();
    assert_eq!(
        slice(&next, &large, &corrected, 16).unwrap().spec.rails[1].prefixes[0]
            .prefix
            .to_string(),
        "10.3.0.0/28"
    );
}

#[test]
fn a_draining_pool_gives_nothing_new_and_may_go_when_nobody_has_any_of_it() {
    let (mut rails, ledger, llama) = in_use();
    add(&mut rails, ["10.2.0.0/28", "10.3.0.0/28"]);
    rails[0].pools[0].draining = true;
    let laid = lay_out(&written(&rails), &ledger, &[&llama]);
    assert_eq!(laid.draining[0].networks, ["team-a/llama"]);
    assert!(said(&laid).is_empty(), "{}", said(&laid));
    let mut next = ledger;
    let qwen = grant(&mut next, std::slice::from_ref(&llama), &rails, "qwen", 2).unwrap();
    assert_eq!(
        slice(&next, &qwen, &rails, 2).unwrap().spec.rails[0].prefixes[0]
            .pool
            .to_string(),
        "10.2.0.0/28"
    );
    let mut removed = rails.clone();
    for rail in &mut removed {
        rail.pools.remove(0);
    }
    let early = said(&lay_out(&written(&removed), &next, &[&llama]));
    assert!(early.contains("10.0.0.0/28 is not in it and in use"), "{early}");
    let freed = release_now(&next, "llama").unwrap().unwrap();
    assert_eq!(said(&lay_out(&written(&removed), &freed, NOBODY)), "");
    assert!(
        lay_out(&written(&rails), &freed, NOBODY).draining[0]
            .networks
            .is_empty()
    );
}

#[test]
fn slots_of_live_networks_never_shift_when_a_pool_before_theirs_goes() {
    let (mut rails, mut ledger, llama) = in_use();
    add(&mut rails, ["10.2.0.0/28", "10.3.0.0/28"]);
    let qwen = grant(&mut ledger, &[llama], &rails, "qwen", 16).unwrap();
    let before = slice(&ledger, &qwen, &rails, 16).unwrap();
    let mut ledger = release_now(&ledger, "llama").unwrap().unwrap();
    for rail in &mut rails {
        rail.pools.remove(0);
    }
    let mut grown = rails.clone();
    add(&mut grown, ["10.4.0.0/28", "10.5.0.0/28"]);
    let new = grant(&mut ledger, std::slice::from_ref(&before), &grown, "new", 16).unwrap();
    let new = slice(&ledger, &new, &grown, 16).unwrap();
    assert_eq!(new.spec.rails[0].prefixes[0].prefix.to_string(), "10.4.0.0/28");
    assert_eq!(slice(&ledger, &qwen, &grown, 16).unwrap(), before);
}

#[test]
fn edits_against_live_networks_name_field_and_network_and_count_for_no_new_one() {
    let (rails, ledger, llama) = in_use();
    let pods = ["10.0.0.2", "10.0.0.3"];
    assert_eq!(llama.spec.rails[0].prefixes[0].prefix.to_string(), "10.0.0.2/31");
    let edit = |change: &dyn Fn(&mut Vec<Rail>)| {
        let mut edited = rails.clone();
        change(&mut edited);
        let laid = lay_out(&written(&edited), &ledger, &[&llama]);
        let given = grant(&mut ledger.clone(), std::slice::from_ref(&llama), &edited, "qwen", 2);
        (said(&laid), given)
    };
    let refused = |(said, given): (String, Result<LedgerEntry, String>), words: &[&str]| {
        for words in words.iter().chain(&["team-a/llama"]) {
            assert!(said.contains(*words), "{words:?} is missing in {said}");
        }
        assert!(given.unwrap_err().contains("EditConflict"));
    };
    refused(
        edit(&|rails| rails[1].pools[0].cidr = "10.9.0.0/28".into()),
        &["spec.rails[rail1].pools[0].cidr", "10.1.0.0/28"],
    );
    refused(
        edit(&|rails| {
            rails[0].pools[0].cidr = "10.1.0.0/28".into();
            rails[1].pools[0].cidr = "10.0.0.0/28".into();
        }),
        &["spec.rails[rail0].pools", "spec.rails[rail1].pools"],
    );
    refused(
        edit(&|rails| rails[0].pools[0].gateway = Some(pods[0].into())),
        &["spec.rails[rail0].pools[0].gateway", pods[0]],
    );
    let (said, given) = edit(&|rails| rails[0].pools[0].exclude = vec![format!("{}/32", pods[1])]);
    assert!(
        said.contains("pools[0].exclude: 10.0.0.3/32") && given.is_ok(),
        "{said}"
    );
    let (said, given) = edit(&|rails| rails[0].pools[0].gateway = Some("10.0.0.14".into()));
    assert!(said.contains("live ones keep no gateway") && given.is_ok(), "{said}");
    let (said, given) = edit(&|rails| drop(rails.remove(1)));
    assert!(said.contains("spec.rails: rail1 (id 1) is gone and in use"), "{said}");
    given.unwrap();
    let mut other = written(&rails);
    other.vlans = VlanRange { min: 2000, max: 2999 };
    let laid = lay_out(&other, &ledger, &[&llama]);
    assert_eq!(laid.conflicts[0].field, "spec.vlan.range");
}

#[test]
fn a_rail_that_comes_back_with_other_pools_gives_no_address_twice() {
    let (rails, ledger, llama) = in_use();
    let mut swapped = rails.clone();
    swapped[1] = rail(1, &["10.7.0.0/28"]);
    let laid = lay_out(&written(&swapped), &ledger, &[&llama]);
    assert!(
        said(&laid).contains("10.1.0.0/28 is in use in this place"),
        "{}",
        said(&laid)
    );
    // A network that is on rail 0 only does not stand against it.
    let mut narrow = llama.clone();
    narrow.spec.rails.truncate(1);
    assert_eq!(said(&lay_out(&written(&swapped), &ledger, &[&narrow])), "");
}

#[test]
fn a_pool_that_overlaps_with_something_outside_is_not_used() {
    let rails = [rail(0, &["10.96.0.0/28", "10.2.0.0/28"])];
    let mut outside = written(&rails);
    outside.outside.push(Outside {
        cidr: "10.96.0.0/28".to_owned(),
        other: "the Service range 10.96.0.0/12".to_owned(),
        advice: "choose another",
    });
    let laid = lay_out(&outside, &empty(), NOBODY);
    assert!(
        said(&laid).contains("10.96.0.0/28 of rail0 overlaps with the Service range"),
        "{}",
        said(&laid)
    );
    assert!(laid.is_usable());
    assert_eq!(
        laid.space.pool(0, 0).map(|pool| pool.net.to_string()).as_deref(),
        Some("10.2.0.0/28")
    );
}

#[derive(Clone, Debug)]
enum Step {
    Edit(Vec<Rail>),
    /// Reserves by what the Fabric says now, or by what it said some edits ago.
    Reserve {
        network: u32,
        pods: u32,
        ago: usize,
        behind: bool,
    },
    /// Makes the slices of entries that have none, by what the Fabric says now.
    Slices {
        rails: usize,
    },
    Delete(u32),
    /// A release that knows no rows writes the ledger.
    Forget,
    Drop(Index),
}

fn fabric() -> impl Strategy<Value = Vec<Rail>> {
    let line = (27_u8..30, prop::collection::vec(0_u32..8, 3), prop::bool::weighted(0.1));
    let rails = prop::sample::subsequence(vec![0_u32, 1, 2], 1..=3);
    (rails, prop::collection::vec(line, 1..4)).prop_map(|(ids, lines)| {
        let pool = |(length, nets, draining): &(u8, Vec<u32>, bool), id: u32| {
            let address = 0x0a00_0000 + (nets[id as usize] << (32 - length));
            Pool {
                cidr: format!("{}/{length}", std::net::Ipv4Addr::from(address)),
                gateway: None,
                exclude: Vec::new(),
                draining: *draining,
            }
        };
        let of_rail = |id: u32| Rail {
            pools: lines.iter().map(|line| pool(line, id)).collect(),
            ..rail(id, &[])
        };
        ids.into_iter().map(of_rail).collect()
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => fabric().prop_map(Step::Edit),
        6 => (0_u32..12, 1_u32..9, 0_usize..3, any::<bool>())
            .prop_map(|(network, pods, ago, behind)| Step::Reserve { network, pods, ago, behind }),
        5 => (1_usize..4).prop_map(|rails| Step::Slices { rails }),
        4 => (0_u32..12).prop_map(Step::Delete),
        1 => Just(Step::Forget),
        1 => any::<Index>().prop_map(Step::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is written into a Fabric, in whatever order, while networks come and go, and though who reserves knows neither
    /// the latest edit nor the latest slice: no two live networks have an address or a VLAN in common.
    #[test]
    fn no_edit_makes_two_live_networks_share_an_address(steps in prop::collection::vec(step(), 1..40)) {
        let mut specs = vec![vec![rail(0, &["10.0.0.0/28"]), rail(1, &["10.0.0.16/28"])]];
        let mut ledger = empty();
        let mut slices: Vec<NetworkSlice> = Vec::new();
        for step in steps {
            let now = specs[specs.len() - 1].clone();
            match step {
                Step::Edit(rails) => specs.push(rails),
                Step::Reserve { network, pods, ago, behind } => {
                    let rails = specs[specs.len().saturating_sub(ago + 1)].clone();
                    let known = if behind && !ledger.pools.is_empty() { slices.len().saturating_sub(1) } else { slices.len() };
                    let _ = grant(&mut ledger, &slices[..known], &rails, &format!("n{network}"), pods);
                }
                Step::Slices { rails } => {
                    let rails = &now[..rails.min(now.len())];
                    for entry in &ledger.entries {
                        if slices.iter().all(|slice| slice.spec.network.uid != entry.owner.uid) {
                            slices.extend(slice(&ledger, entry, rails, 1));
                        }
                    }
                }
                Step::Delete(network) => {
                    let uid = format!("n{network}");
                    slices.retain(|slice| slice.spec.network.uid != uid);
                    ledger = release_now(&ledger, &uid).unwrap().unwrap_or(ledger);
                }
                Step::Forget if ledger.entries.len() == slices.len() => ledger.pools.clear(),
                Step::Drop(place) if specs.len() > 1 => {
                    // Undone.
                    let place = place.index(specs.len());
                    specs.push(specs[place].clone());
                }
                Step::Drop(_) | Step::Forget => {}
            }
            let prefixes: Vec<(usize, Ipv4Net)> = slices
                .iter()
                .enumerate()
                .flat_map(|(place, slice)| slice.spec.rails.iter().map(move |rail| (place, rail.prefixes[0].prefix.to_string().parse().unwrap())))
                .collect();
            for (place, (first, one)) in prefixes.iter().enumerate() {
                for (second, other) in &prefixes[place + 1..] {
                    let shared = one.contains(other) || other.contains(one);
                    prop_assert!(!shared, "{} and {} of {} and {}", one, other, slices[*first].spec.network.uid, slices[*second].spec.network.uid);
                }
            }
        }
    }

    /// Nothing that the API server may take makes a layout that gives a slot to two rows.
    #[test]
    fn rows_share_neither_slots_nor_addresses(rails in fabric()) {
        let laid = lay_out(&written(&rails), &empty(), NOBODY);
        let rows = laid.space.rows();
        for (place, row) in rows.iter().enumerate() {
            for other in &rows[place + 1..] {
                prop_assert!(!row.place.meets(other.place));
            }
        }
        let nets: Vec<Ipv4Net> = rows.iter().flat_map(|row| row.pools.iter().map(|(_, pool)| pool.net)).collect();
        for (place, net) in nets.iter().enumerate() {
            prop_assert!(nets[place + 1..].iter().all(|other| !net.contains(other) && !other.contains(net)));
        }
    }
}
