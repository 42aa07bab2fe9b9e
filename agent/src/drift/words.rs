//! What differs of a pod's rails, as the reason and the message of a condition: pure. Attachments and claims say the same.

use railhead_crds::reasons::Reason;

/// Reason and message of these differences, the first of which is named; `None` where there is none.
pub(crate) fn told<'a>(differences: impl IntoIterator<Item = &'a String>) -> Option<(Reason, String)> {
    let mut differences = differences.into_iter();
    let first = differences.next()?;
    let down = ["has no carrier", "it is down", "is gone"];
    let reason = if down.iter().any(|word| first.contains(word)) {
        Reason::RailDown
    } else {
        Reason::Drifted
    };
    let message = match differences.count() {
        0 => first.clone(),
        more => format!("{first} (and {more} more)"),
    };
    Some((reason, message))
}

/// Whether a difference is one of the rail `id` called `name`. One that names no rail of `rails` is one of each.
pub(crate) fn concerns(difference: &str, (id, name): (u32, &str), rails: &[(u32, &str)]) -> bool {
    let names = |(id, name): (u32, &str)| {
        [
            format!("{name}: "),
            format!("interface {name} "),
            format!("rail {id}: "),
        ]
        .iter()
        .any(|start| difference.starts_with(start))
    };
    names((id, name)) || !rails.iter().any(|&rail| names(rail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_concerns_the_rail_that_it_names_and_else_all() {
        let rails = [(0, "rail0"), (1, "rail1"), (10, "rail10")];
        let of = |difference: &str| {
            let concerned = rails.iter().filter(|rail| concerns(difference, **rail, &rails));
            concerned.map(|rail| rail.0).collect::<Vec<_>>()
        };
        assert_eq!(of("rail1: it has no carrier"), [1]);
        assert_eq!(of("rail10: its MTU is 1500 and not 9000"), [10]);
        assert_eq!(of("interface rail0 is gone"), [0]);
        assert_eq!(of("rail 10: netlink: No such device"), [10]);
        assert_eq!(of("sandbox c1 was never wired"), [0, 1, 10]);
    }
}
