//! The most similar name, for hints in errors.

/// Longer names are not compared: a comparison takes as many steps as the product of the lengths.
const MAX_LENGTH: usize = 64;

/// The most similar of `candidates`, if one is similar at all: by edit distance (insertions, deletions, substitutions,
/// transpositions), else the one that `name` is a prefix of. Case is ignored; `-` and `_` count as equal.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_LENGTH {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace('_', "-");
    let name = plain(name);
    let letters = name.chars().count();
    let most_edits = 2.max(letters / 3).min(letters.saturating_sub(1));
    // Candidates within the edit distance come before those with a common prefix.
    let distance = |candidate: &str| {
        let candidate = plain(candidate);
        let edits = strsim::damerau_levenshtein(&candidate, &name);
        let is_begun = letters > 2 && candidate.starts_with(&name);
        if edits <= most_edits { Some((0, edits)) } else { is_begun.then_some((1, edits)) }
    };
    let close = candidates.into_iter().filter_map(|candidate| Some((distance(candidate)?, candidate)));
    close.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_find_theirs_and_others_nothing() {
        let names = ["resnet18", "resnet50", "convnext_tiny", "warmup_epochs", "lr", "cifar10", "cifar100"];
        for (typed, expected) in [
            ("resnet-50", Some("resnet50")),
            ("ResNet50", Some("resnet50")),
            ("resnet5o", Some("resnet50")),
            ("convnext-tiny", Some("convnext_tiny")),
            ("CONVNEXT_TINI", Some("convnext_tiny")),
            ("warmup", Some("warmup_epochs")),
            ("cifra10", Some("cifar10")),
            ("Cifar", Some("cifar10")),
            ("lt", Some("lr")),
            // One letter is too few to be told from another.
            ("l", None),
            ("xy", None),
            ("", None),
            ("imagenet", None),
            (&"r".repeat(1000), None),
        ] {
            assert_eq!(nearest(typed, names), expected, "{typed}");
        }
    }
}
