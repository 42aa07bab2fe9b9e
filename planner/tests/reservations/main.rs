//! The whole life of reservations against a reference that knows nothing but sets: networks asked for, refused, given, attached,
//! deleted; two operators that both believe they lead, plan on what they read a while ago and end between any two writes; ledgers
//! damaged, emptied and restored from an older copy; fabrics that get other pools and VLANs meanwhile.
//!
//! Runs in seconds; `PROPTEST_CASES=20000` looks longer.

mod cases;
mod reference;
mod world;

use proptest::{prelude::*, sample::Index};

use world::{Damage, Then, World};

/// What happens next. Whoever is meant is chosen among those that are there by then.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody applies a network.
    Apply { fabric: usize, pods: u32 },
    /// Somebody deletes a network.
    Delete { network: Index },
    /// An operator reads a fabric's ledger, its slices and the networks that wait.
    Read { operator: usize, fabric: usize },
    /// It plans for those on what it read and writes. One that dies then makes no slices, one that dawdles makes them later.
    Reserve { operator: usize, then: Then },
    /// It makes slices of what it got a while ago, unless what was given back since may have rested.
    MakeSlices { operator: usize },
    /// Time passes.
    Wait { seconds: i64 },
    /// A node takes an index for a pod.
    Attach { slice: Index, index: Index },
    /// A node has unwired a pod.
    Detach { attachment: Index },
    /// An operator goes on with a deleted network. One that dies does so between the slice and the ledger.
    End { network: Index, dies: bool },
    /// An operator gives back what neither a network nor a slice holds.
    Sweep { fabric: usize },
    /// Somebody damages a ledger.
    Damage { fabric: usize, damage: Damage },
    /// The platform team appends a pool to every rail.
    AppendPool { fabric: usize, length: u8 },
    /// It takes an address of a pool away from pods.
    Exclude { fabric: usize, slot: Index },
    /// It gives the fabric another range of VLANs.
    Vlans { fabric: usize, min: u16, count: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    let fabric = || 0..world::FABRICS;
    let operator = || 0..world::OPERATORS;
    let index = any::<Index>;
    let damage = prop_oneof![
        3 => index().prop_map(|entry| Damage::TakeOut { entry }),
        3 => (index(), 0u32..80, 1u16..14).prop_map(|(entry, base, vlan)| Damage::Alter { entry, base, vlan }),
        1 => Just(Damage::Empty),
        2 => index().prop_map(|copy| Damage::Restore { copy }),
    ];
    let then = prop_oneof![6 => Just(Then::MakesSlices), 2 => Just(Then::Dies), 2 => Just(Then::Dawdles)];
    prop_oneof![
        12 => (fabric(), prop_oneof![4 => 1u32..9, 2 => 9u32..33, 1 => 33u32..300])
            .prop_map(|(fabric, pods)| Step::Apply { fabric, pods }),
        6 => index().prop_map(|network| Step::Delete { network }),
        14 => (operator(), fabric()).prop_map(|(operator, fabric)| Step::Read { operator, fabric }),
        14 => (operator(), then).prop_map(|(operator, then)| Step::Reserve { operator, then }),
        5 => operator().prop_map(|operator| Step::MakeSlices { operator }),
        8 => (1i64..world::REST_SECONDS).prop_map(|seconds| Step::Wait { seconds }),
        5 => (index(), index()).prop_map(|(slice, index)| Step::Attach { slice, index }),
        4 => index().prop_map(|attachment| Step::Detach { attachment }),
        9 => (index(), prop::bool::weighted(0.2)).prop_map(|(network, dies)| Step::End { network, dies }),
        3 => fabric().prop_map(|fabric| Step::Sweep { fabric }),
        3 => (fabric(), damage).prop_map(|(fabric, damage)| Step::Damage { fabric, damage }),
        1 => (fabric(), 27u8..30).prop_map(|(fabric, length)| Step::AppendPool { fabric, length }),
        1 => (fabric(), index()).prop_map(|(fabric, slot)| Step::Exclude { fabric, slot }),
        1 => (fabric(), 1u16..8, 1u16..12).prop_map(|(fabric, min, count)| Step::Vlans { fabric, min, count }),
    ]
}

/// Does one step, and compares all that there is then.
fn live(world: &mut World, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Apply { fabric, pods } => world.apply(fabric, pods),
        Step::Delete { network } => world.delete(network),
        Step::Read { operator, fabric } => world.read(operator, fabric),
        Step::Reserve { operator, then } => world.reserve(operator, then)?,
        Step::MakeSlices { operator } => world.make_slices(operator)?,
        Step::Wait { seconds } => world.wait(seconds),
        Step::Attach { slice, index } => world.attach(slice, index),
        Step::Detach { attachment } => world.detach(attachment),
        Step::End { network, dies } => world.end(network, dies)?,
        Step::Sweep { fabric } => world.sweep(fabric)?,
        Step::Damage { fabric, damage } => world.damage(fabric, &damage),
        Step::AppendPool { fabric, length } => world.append_pool(fabric, length),
        Step::Exclude { fabric, slot } => world.exclude(fabric, slot),
        Step::Vlans { fabric, min, count } => world.set_vlans(fabric, min, count),
    }
    reference::nothing_is_held_twice(world)?;
    reference::nothing_is_lost(world)
}

proptest! {
    /// Promises 1 and 2, whatever happens in whichever order.
    #[test]
    fn reservations_hold_through_their_whole_life(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            live(&mut world, step)?;
        }
        world.everything_can_be_given_back()?;
    }

    /// Promise 2: a network that fits the pool exactly gets all of it, whatever was there before.
    #[test]
    fn exact_fit_holds_after_everything_was_given_back(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            let is_about_networks = !matches!(step, Step::Exclude { .. } | Step::Vlans { .. } | Step::Damage { .. });
            if is_about_networks {
                live(&mut world, step)?;
            }
        }
        world.everything_can_be_given_back()?;
        for fabric in 0..world::FABRICS {
            world.apply(fabric, world::LARGEST_POOL);
            world.read(0, fabric);
            world.reserve(0, Then::MakesSlices)?;
            reference::nothing_is_held_twice(&world)?;
            prop_assert_eq!(world.pods_reserved(fabric), world::LARGEST_POOL);
        }
    }
}
