//! Numbers the classes that labels name.

use std::collections::{BTreeSet, HashMap};

use crate::class_list::ClassList;
use crate::folder::{MAX_CLASSES, check_distinct};
use crate::{DataError, UnknownClasses, match_classes};

/// The labels of a dataset, numbered in the order of their appearance until all of them are known.
#[derive(Debug, Default)]
pub(crate) struct ClassNumbers {
    numbers: HashMap<Box<str>, u32>,
    /// The labels that the training split has.
    trained: BTreeSet<u32>,
}

/// The classes of a dataset, and the class of each number that [`ClassNumbers::number`] gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Classes {
    pub(crate) names: Vec<String>,
    pub(crate) labels: Vec<u32>,
    /// A note for the user, if the names are not the labels.
    pub(crate) note: Option<String>,
}

impl ClassNumbers {
    /// The number of a label; `None` for one more than the maximum of 65,536.
    pub(crate) fn number(&mut self, label: &str) -> Option<u32> {
        if let Some(&number) = self.numbers.get(label) {
            return Some(number);
        }
        let number = self.numbers.len() as u32;
        (self.numbers.len() < MAX_CLASSES).then(|| {
            self.numbers.insert(label.into(), number);
            number
        })
    }

    /// Notes that an image of the training split has this label.
    pub(crate) fn mark_trained(&mut self, number: u32) {
        self.trained.insert(number);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Labels that are names: sorted, as numbers if all of them are numbers. Without a training split all of them are
    /// classes.
    ///
    /// # Errors
    /// [`DataError::Invalid`] for two spellings of one name; [`DataError::Classes`] for labels that the training split lacks.
    pub(crate) fn names(self, place: &str) -> Result<Classes, DataError> {
        check_distinct(self.numbers.keys().map(|name| &**name), place)?;
        let count = self.numbers.len();
        let is_known = |number: &u32| self.trained.is_empty() || self.trained.contains(number);
        let (known, unknown): (Vec<_>, Vec<_>) = self.numbers.into_iter().partition(|(_, number)| is_known(number));
        let known = sorted(known);
        let names = |list: Vec<(Box<str>, u32)>| list.into_iter().map(|(name, _)| name.into()).collect();
        if !unknown.is_empty() {
            let cause = UnknownClasses { known: names(known), unknown: names(sorted(unknown)) };
            return Err(DataError::Classes { place: place.to_owned(), cause });
        }
        let mut labels = vec![0; count];
        (0..).zip(&known).for_each(|(label, &(_, number))| labels[number as usize] = label);
        Ok(Classes { names: names(known), labels, note: None })
    }

    /// Labels that are indices or names: indices if all of them are whole numbers, with the names of `list`, else
    /// names. Without a list indices are names of their own, which the note says, and those of the training split are the
    /// classes.
    ///
    /// # Errors
    /// [`DataError::Invalid`] for an index that the list or the training split lacks, else as [`names`](Self::names).
    pub(crate) fn indices_or_names(self, list: Option<ClassList>, place: &str) -> Result<Classes, DataError> {
        let by_number = {
            let mut by_number = vec![""; self.numbers.len()];
            self.numbers.iter().for_each(|(label, &number)| by_number[number as usize] = label);
            by_number
        };
        let indices: Option<Vec<usize>> = by_number.iter().map(|label| label.parse().ok()).collect();
        let Some(indices) = indices else {
            let Some(ClassList { file, names }) = list else { return self.names(place) };
            let own: Vec<String> = by_number.into_iter().map(str::to_owned).collect();
            check_distinct(own.iter().map(String::as_str), place)?;
            let map = match_classes(&own, &names);
            let map = map.map_err(|cause| DataError::Classes { place: place.to_owned(), cause })?;
            let note = format!("{place}: the classes are those of {}", file.display());
            return Ok(Classes { names, labels: map.to, note: Some(note) });
        };
        let of_training =
            |&(number, _): &(usize, &usize)| self.trained.is_empty() || self.trained.contains(&(number as u32));
        let (known, all) = (indices.iter().enumerate().filter(of_training).map(|(_, &index)| index).max(), &indices);
        let most = if list.is_some() { all.iter().copied().max() } else { known };
        let (names, note) = name_indices(list, most.map_or(0, |most| most.saturating_add(1)), place)?;
        if let Some(&index) = indices.iter().find(|&&index| index >= names.len()) {
            let expected = format!("a label below {}, as in the training images", names.len());
            return Err(DataError::invalid(place, expected, index));
        }
        let labels = indices.into_iter().map(|index| index as u32).collect();
        Ok(Classes { names, labels, note: Some(note) })
    }
}

/// The names of the classes 0, 1, … below `count`: those of the list, which may have more, else the numbers themselves; and a
/// note that says so.
///
/// # Errors
/// [`DataError::Invalid`] if the list has fewer, or there are more than 65,536 classes.
pub(crate) fn name_indices(
    list: Option<ClassList>,
    count: usize,
    place: &str,
) -> Result<(Vec<String>, String), DataError> {
    let last = count.saturating_sub(1);
    match list {
        Some(ClassList { file, names }) if count <= names.len() => {
            let note = format!("{place}: the class names are those of {}", file.display());
            Ok((names, note))
        }
        Some(ClassList { file, names }) => {
            let expected = format!("labels below {}, the number of names in {}", names.len(), file.display());
            Err(DataError::invalid(place, expected, last))
        }
        None if count > MAX_CLASSES => Err(DataError::invalid(place, format!("labels below {MAX_CLASSES}"), last)),
        None => {
            let note = format!("{place}: no classes.txt names the classes, which are called 0 to {last}");
            Ok(((0..count).map(|class| class.to_string()).collect(), note))
        }
    }
}

fn sorted(mut names: Vec<(Box<str>, u32)>) -> Vec<(Box<str>, u32)> {
    // Only numbers without leading zeros, of which no two are equal.
    let number = |name: &str| name.parse().ok().filter(|number: &u64| number.to_string() == name);
    if names.iter().all(|(name, _)| number(name).is_some()) {
        names.sort_unstable_by_key(|(name, _)| number(name));
    } else {
        names.sort_unstable();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(trained: &[&str], others: &[&str]) -> ClassNumbers {
        let mut classes = ClassNumbers::default();
        for label in trained {
            let number = classes.number(label).unwrap();
            classes.mark_trained(number);
        }
        others.iter().for_each(|label| assert!(classes.number(label).is_some()));
        classes
    }

    fn list(names: &[&str]) -> Option<ClassList> {
        Some(ClassList { file: "classes.txt".into(), names: names.iter().map(ToString::to_string).collect() })
    }

    #[test]
    fn numbers_are_indices_and_a_list_names_them() {
        let classes = numbered(&["2", "0"], &["2"]).indices_or_names(list(&["a", "b", "c"]), "d").unwrap();
        assert_eq!((classes.names.join(" "), classes.labels), ("a b c".to_owned(), vec![2, 0]));
        assert_eq!(classes.note.unwrap(), "d: the class names are those of classes.txt");
        let classes = numbered(&["2", "0"], &[]).indices_or_names(None, "d").unwrap();
        assert_eq!((classes.names.join(" "), classes.labels), ("0 1 2".to_owned(), vec![2, 0]));
        assert_eq!(classes.note.unwrap(), "d: no classes.txt names the classes, which are called 0 to 2");
    }

    #[test]
    fn texts_are_names_and_a_list_orders_them() {
        let classes = numbered(&["owl", "cat"], &[]).indices_or_names(None, "d").unwrap();
        assert_eq!(classes, Classes { names: vec!["cat".into(), "owl".into()], labels: vec![1, 0], note: None });
        let classes = numbered(&["owl", "cat"], &[]).indices_or_names(list(&["owl", "dog", "cat"]), "d").unwrap();
        assert_eq!((classes.names.join(" "), classes.labels), ("owl dog cat".to_owned(), vec![0, 2]));
        // A number among names is a name.
        let classes = numbered(&["7", "cat"], &[]).indices_or_names(None, "d").unwrap();
        assert_eq!(classes.names, ["7", "cat"]);
    }

    #[test]
    fn a_label_that_has_no_class_is_refused() {
        let message = |classes: ClassNumbers, list| classes.indices_or_names(list, "d").unwrap_err().to_string();
        let expected = "d: expected labels below 2, the number of names in classes.txt, got 2";
        assert_eq!(message(numbered(&["2"], &[]), list(&["a", "b"])), expected);
        assert_eq!(
            message(numbered(&["1"], &["4"]), None),
            "d: expected a label below 2, as in the training images, got 4"
        );
        assert_eq!(
            message(numbered(&["cow"], &[]), list(&["a"])),
            "d: classes: expected classes among \"a\", got \"cow\""
        );
        assert_eq!(message(numbered(&["a"], &["b"]), None), "d: classes: expected classes among \"a\", got \"b\"");
        assert_eq!(
            message(numbered(&["99999999999999999999"], &["1"]), None),
            "d: classes: expected classes among \"99999999999999999999\", got \"1\""
        );
        assert_eq!(message(numbered(&["70000"], &[]), None), "d: expected labels below 65536, got 70000");
    }
}
