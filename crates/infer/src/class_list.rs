//! Class names that are not in the weights file: those of well-known datasets, or of a file.

use crate::InferError;
use residual_data::{CifarKind, ClassMap, UnknownClasses, match_classes};
use residual_files::read_text;
use residual_hub::imagenet_labels;
use std::path::Path;

/// Longer files are refused: the longest list has 2^20 names, as many as a network may have outputs.
const MAX_BYTES: u64 = 64 << 20;

/// The classes of a network by name, each with its output index. Several names may share an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassList {
    /// Its source, for messages.
    place: String,
    names: Vec<String>,
    outputs: Vec<u32>,
}

impl ClassList {
    /// `imagenet`, `cifar10` or `cifar100`, or the path of a file (see [`ClassList::parse`]).
    ///
    /// # Errors
    /// If the file cannot be read or is no list of classes.
    pub fn open(text: &str) -> Result<Self, InferError> {
        let known = |names| Self::new(text, names);
        match text {
            "imagenet" => Ok(known(imagenet_labels())),
            "cifar10" => Ok(known(CifarKind::Cifar10.built_in_names())),
            "cifar100" => Ok(known(CifarKind::Cifar100.built_in_names())),
            _ => Self::read(Path::new(text)),
        }
    }

    /// Reads a file (see [`ClassList::parse`]).
    ///
    /// # Errors
    /// If it cannot be read or is no list of classes.
    pub fn read(path: &Path) -> Result<Self, InferError> {
        Self::parse(&read_text(path, MAX_BYTES)?, &path.display().to_string())
    }

    /// Reads one class per line: its name, whose output index is the line number, as in timm's class maps; or, if every
    /// line ends in a number, a name and its output index (`n01440764 0`). Blank lines are ignored.
    ///
    /// # Errors
    /// If there are no names, or one name belongs to two outputs.
    pub fn parse(text: &str, place: &str) -> Result<Self, InferError> {
        let lines: Vec<&str> =
            text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return Err(InferError::classes(place, "a class in every line", "none"));
        }
        let numbered = |line: &&str| {
            let (name, number) = line.rsplit_once(char::is_whitespace)?;
            Some((name.trim_end().to_owned(), number.parse::<u32>().ok()?))
        };
        let Some(entries) = lines.iter().map(numbered).collect::<Option<Vec<_>>>() else {
            return Ok(Self::new(place, lines.into_iter().map(str::to_owned).collect()));
        };
        let mut known = std::collections::HashMap::new();
        for (name, output) in &entries {
            match known.insert(name, output) {
                Some(other) if other != output => {
                    let expected = format!("one output for \"{}\"", name.escape_debug());
                    return Err(InferError::classes(place, expected, format!("{other} and {output}")));
                }
                _ => {}
            }
        }
        let (names, outputs) = entries.into_iter().unzip();
        Ok(Self { place: place.to_owned(), names, outputs })
    }

    /// A list of names, by output.
    pub fn new(place: &str, names: Vec<String>) -> Self {
        let outputs = (0..names.len() as u32).collect();
        Self { place: place.to_owned(), names, outputs }
    }

    /// The name of each of `outputs` outputs; the first where there are several.
    ///
    /// # Errors
    /// If an output has no name, or there is a name for none of them.
    pub fn names(&self, outputs: usize) -> Result<Vec<String>, InferError> {
        self.check_outputs(outputs)?;
        let mut names = vec![None; outputs];
        for (name, &output) in self.names.iter().zip(&self.outputs) {
            names[output as usize].get_or_insert_with(|| name.clone());
        }
        let missing = names.iter().position(Option::is_none);
        names.into_iter().collect::<Option<_>>().ok_or_else(|| {
            let expected = format!("a name for each of the network's {outputs} outputs");
            InferError::classes(&self.place, expected, format!("none for {}", missing.unwrap_or_default()))
        })
    }

    /// The outputs that the classes `from` belong to, of a network with `outputs` outputs called `labels` (empty if not
    /// known).
    pub(crate) fn map(&self, from: &[String], outputs: usize, labels: &[String]) -> Result<ClassMap, InferError> {
        self.check_outputs(outputs)?;
        let found = match_classes(from, &self.names)?;
        if !found.by_name {
            return Err(UnknownClasses { known: self.names.clone(), unknown: from.to_vec() }.into());
        }
        let to: Vec<u32> = found.to.into_iter().map(|entry| self.outputs[entry as usize]).collect();
        let absent = labels.iter().zip(0..).filter(|(_, output)| !to.contains(output)).map(|(name, _)| name.clone());
        Ok(ClassMap { absent: absent.collect(), to, by_name: true })
    }

    fn check_outputs(&self, outputs: usize) -> Result<(), InferError> {
        let most = self.outputs.iter().max().map_or(0, |&most| most as usize);
        if most < outputs {
            return Ok(());
        }
        let expected = format!("classes for the network's {outputs} outputs");
        Err(InferError::classes(&self.place, expected, format!("one for output {most}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_line_is_a_name_or_a_name_and_its_output() {
        let plain = ClassList::parse("\u{feff}tabby cat\r\n\n great dane \n", "a.txt").unwrap();
        assert_eq!(plain.names(2).unwrap(), strings(&["tabby cat", "great dane"]));
        let numbered = ClassList::parse("dog 1\nhot dog\t1\ncat 0\n", "a.txt").unwrap();
        assert_eq!(numbered.names(2).unwrap(), strings(&["cat", "dog"]));
        let map = numbered.map(&strings(&["hot dog", "cat"]), 3, &strings(&["x", "y", "z"])).unwrap();
        assert_eq!((map.to, map.absent), (vec![1, 0], strings(&["z"])));
    }

    #[test]
    fn a_list_that_does_not_fit_is_refused() {
        let message = |result: Result<Vec<String>, InferError>| result.unwrap_err().to_string();
        let list = ClassList::parse("a 0\nb 2\n", "a.txt").unwrap();
        assert_eq!(message(list.names(2)), "a.txt: expected classes for the network's 2 outputs, got one for output 2");
        assert_eq!(
            message(list.names(3)),
            "a.txt: expected a name for each of the network's 3 outputs, got none for 1"
        );
        let twice = ClassList::parse("a 0\na 2\n", "a.txt").unwrap_err().to_string();
        assert_eq!(twice, "a.txt: expected one output for \"a\", got 0 and 2");
        assert!(ClassList::parse(" \n", "a.txt").is_err());
        assert!(list.map(&strings(&["0", "1"]), 3, &[]).is_err());
    }

    #[test]
    fn known_lists_have_their_datasets_classes() {
        for (name, classes, last) in
            [("imagenet", 1000, "toilet tissue"), ("cifar10", 10, "truck"), ("cifar100", 100, "worm")]
        {
            assert_eq!(ClassList::open(name).unwrap().names(classes).unwrap()[classes - 1], last);
        }
    }
}
