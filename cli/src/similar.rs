//! The name that was meant.

/// The one of `names` that is nearest to what was written, if it is near enough to be meant.
pub(crate) fn similar<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &'a str| (strsim::damerau_levenshtein(written, name), name);
    let nearest = names.into_iter().map(distance).min()?;
    (nearest.0 <= (nearest.1.len() / 3).max(2)).then_some(nearest.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_another_name_is_not() {
        assert_eq!(similar("lama", ["llama", "bloom"]), Some("llama"));
        assert_eq!(similar("gpt", ["llama", "bloom"]), None);
        assert_eq!(similar("gpt", []), None);
    }
}
