//! Matching class names of two sides: a dataset and a model, a validation folder and its training folder.
//!
//! A class index is meaningful only with its list of names. Indices of one list are always converted to those of another
//! with [`match_classes`].

use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;

/// The mapping of class indices from one side to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassMap {
    /// For each class of the first side, its index on the second.
    pub to: Vec<u32>,
    /// The names of the second side that the first lacks, in their order.
    pub absent: Vec<String>,
    /// Whether classes were matched by name, or by index because one side has no names.
    pub by_name: bool,
}

impl ClassMap {
    /// Whether every class keeps its index.
    pub fn is_identity(&self) -> bool {
        self.to.iter().enumerate().all(|(from, &to)| from as u32 == to)
    }
}

/// Classes of one side that the other does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("classes: expected classes among {}, got {}", quoted(known), quoted(unknown))]
pub struct UnknownClasses {
    /// The existing names.
    pub known: Vec<String>,
    /// The unknown names.
    pub unknown: Vec<String>,
}

/// Maps the classes `from` to the indices of `to`. Names are compared in Unicode's normal form C, so that `é` typed in two
/// ways is one letter; a subset or a permutation matches. If one side has no names (its list is empty or contains only
/// class indices, as for a file of tensors) and they are not found on the other, indices are kept.
///
/// # Errors
/// [`UnknownClasses`] if both sides have names and `to` lacks some of `from`.
///
/// ```
/// use residual_data::match_classes;
/// let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
/// let map = match_classes(&names(&["cat", "owl"]), &names(&["owl", "dog", "cat"]))?;
/// assert_eq!((map.to, map.absent), (vec![2, 0], names(&["dog"])));
/// # Ok::<(), residual_data::UnknownClasses>(())
/// ```
pub fn match_classes(from: &[String], to: &[String]) -> Result<ClassMap, UnknownClasses> {
    let normal = |name: &String| name.nfc().collect::<String>();
    let numbers: HashMap<String, u32> = to.iter().map(normal).zip(0..).collect();
    let found: Vec<Option<u32>> = from.iter().map(|name| numbers.get(&normal(name)).copied()).collect();
    if found.contains(&None) {
        let unnamed = !are_names(from) || (!are_names(to) && found.iter().all(Option::is_none));
        if unnamed {
            return Ok(ClassMap { to: (0..from.len() as u32).collect(), absent: Vec::new(), by_name: false });
        }
        let unknown = from.iter().zip(&found).filter(|(_, found)| found.is_none());
        return Err(UnknownClasses { known: to.to_vec(), unknown: unknown.map(|(name, _)| name.clone()).collect() });
    }
    let mut present = vec![false; to.len()];
    let to_numbers: Vec<u32> = found.into_iter().flatten().collect();
    to_numbers.iter().for_each(|&number| present[number as usize] = true);
    let absent = to.iter().zip(present).filter(|(_, present)| !present).map(|(name, _)| name.clone()).collect();
    Ok(ClassMap { to: to_numbers, absent, by_name: true })
}

/// Whether these are real class names, not just indices.
pub fn are_names(labels: &[String]) -> bool {
    labels.iter().enumerate().any(|(index, label)| *label != index.to_string())
}

/// The first few of some names, each in quotes with control characters escaped, and how many more there are.
fn quoted(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("\"{}\"", name.escape_debug())).collect();
    let more = names.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_decide_whatever_the_order_and_absent_classes_are_told() {
        let map = match_classes(&names(&["0", "270", "90"]), &names(&["0", "180", "270", "90"])).unwrap();
        assert_eq!(map, ClassMap { to: vec![0, 2, 3], absent: names(&["180"]), by_name: true });
        let map = match_classes(&names(&["b", "a"]), &names(&["a", "b"])).unwrap();
        assert!(map.to == [1, 0] && map.absent.is_empty() && !map.is_identity());
    }

    #[test]
    fn classes_that_the_other_side_lacks_are_refused_by_name() {
        let error = match_classes(&names(&["cat", "a"]), &names(&["a", "b"])).unwrap_err();
        assert_eq!(error.to_string(), "classes: expected classes among \"a\", \"b\", got \"cat\"");
        let many: Vec<String> = (0..1000).map(|index| format!("class {index}")).collect();
        let text = match_classes(&names(&["\u{1b}[2J"]), &many).unwrap_err().to_string();
        assert!(text.contains("and 995 more") && text.contains("\\u{1b}") && text.len() < 200, "{text}");
    }

    #[test]
    fn a_composed_and_a_decomposed_letter_are_one() {
        let map = match_classes(&names(&["cafe\u{301}"]), &names(&["bar", "caf\u{e9}"])).unwrap();
        assert_eq!(map.to, [1]);
    }

    #[test]
    fn digits_that_are_names_match_by_name() {
        let digits: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
        assert_eq!(match_classes(&names(&["3", "5"]), &digits).unwrap().to, [3, 5]);
        match_classes(&names(&["3", "cat"]), &digits).unwrap_err();
    }

    #[test]
    fn without_names_on_a_side_indices_are_kept() {
        let unnamed = [names(&["0", "1"]), names(&["a", "b"])];
        for (from, to) in
            [(&unnamed[0], names(&["a", "b", "c"])), (&unnamed[1], Vec::new()), (&unnamed[1], names(&["0", "1"]))]
        {
            let map = match_classes(from, &to).unwrap();
            assert_eq!(map, ClassMap { to: vec![0, 1], absent: Vec::new(), by_name: false });
        }
    }
}
