//! Says which words there are, and finds the one somebody probably meant.
//!
//! Used wherever a message can end in "known here" or "did you mean".

/// Lists words as messages do: in backticks, with commas between them.
pub(super) fn quoted_list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<_> = words.into_iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

/// Gives the candidate most like `text`, if one is like it at all.
#[must_use]
pub(super) fn nearest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let text = plain(text);
    if text.is_empty() {
        return None;
    }
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other = plain(candidate);
            let mut likeness = strsim::normalized_damerau_levenshtein(&text, &other);
            // `timeout` is meant to be `timeout_seconds`, `url` to be `jwks_url`.
            let (short, long) = if text.len() < other.len() {
                (&text, &other)
            } else {
                (&other, &text)
            };
            if short.len() >= 3
                && (long.starts_with(short.as_str()) || long.ends_with(short.as_str()))
            {
                likeness = likeness.max(0.7);
            }
            // `fanout` is meant to be `fan_out`.
            if text.replace('_', "") == other.replace('_', "") {
                likeness = 1.0;
            }
            (likeness >= 0.6).then_some((likeness, candidate))
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type() {
        let keys = ["per_second", "burst", "scope", "timeout_seconds", "fan_out"];
        assert_eq!(nearest("per_secnd", keys), Some("per_second"));
        assert_eq!(nearest("perSecond", keys), Some("per_second"));
        assert_eq!(nearest("per-second", keys), Some("per_second"));
        assert_eq!(nearest("timeout", keys), Some("timeout_seconds"));
        assert_eq!(nearest("fanout", keys), Some("fan_out"));
        assert_eq!(nearest("banana", keys), None);
        assert_eq!(nearest("", keys), None);
    }
}
