//! Lists and counts as people read them in conditions and events.

use railhead_crds::SliceRail;

/// `2 pods still attached`.
pub(crate) fn still_attached(count: usize) -> String {
    if count == 1 {
        "1 pod still attached".to_owned()
    } else {
        format!("{count} pods still attached")
    }
}

/// `VLAN 1012`, the same on all rails.
pub(crate) fn vlan_of(rails: &[SliceRail]) -> String {
    match rails.first().and_then(|rail| rail.vlan) {
        Some(vlan) => format!("VLAN {vlan}"),
        None => "no VLAN".to_owned(),
    }
}

/// `10.0.64.0/21`, or several.
pub(crate) fn prefixes_of(rail: &SliceRail) -> String {
    let prefixes: Vec<String> = rail.prefixes.iter().map(|block| block.prefix.to_string()).collect();
    prefixes.join(" ")
}

/// The first few of a list.
pub(crate) fn listed(items: &[String]) -> String {
    const SHOWN: usize = 8;
    match items.len().checked_sub(SHOWN) {
        None | Some(0) => items.join(", "),
        Some(more) => format!("{} and {more} more", items[..SHOWN].join(", ")),
    }
}

/// `0-3, 5, 7-9`.
pub(super) fn ranges(indices: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for index in indices {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => ranges.push((*index, *index)),
        }
    }
    let texts: Vec<String> = ranges
        .iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    listed(&texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_waiting_indices_are_written_as_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2, 5, 7-8");
        let odd: Vec<u32> = (0..40).map(|i| i * 2).collect();
        assert!(ranges(&odd).ends_with("and 32 more"));
    }
}
