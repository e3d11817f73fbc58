//! Finds the shards of a dataset: files that hold many images each, by a pattern or in a folder, with their splits.

use std::path::{Path, PathBuf};

use residual_files::{printable, visible_entries};

use crate::layout::data_folders;
use crate::{DataError, Split};

/// Maximum number of shards of a pattern.
const MAX_SHARDS: usize = 65_536;
/// The folder in which datasets of the Hugging Face hub have their shards.
const HUB_FOLDER: &str = "data";

/// The shards of a dataset, in order. Nothing of them is read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shards {
    /// The pattern, file or folder, for messages.
    place: PathBuf,
    /// The folders in which a list of class names may lie, the nearest first.
    folders: Vec<PathBuf>,
    /// The shards of each split; those of a dataset without splits are all in the training split.
    splits: Vec<(Split, Vec<PathBuf>)>,
    has_splits: bool,
}

impl Shards {
    /// A single file.
    pub(crate) fn file(path: &Path) -> Self {
        Self::single(path, vec![path.to_path_buf()])
    }

    /// The files of a pattern with ranges (`train-{000..012}.tar`) and lists (`{a,b}.tar`) in braces; `None` if it has no
    /// braces.
    ///
    /// # Errors
    /// [`DataError::Invalid`] for a pattern of more than 65,536 files, or a file that does not exist.
    pub(crate) fn pattern(pattern: &str) -> Result<Option<Self>, DataError> {
        let Some(names) = expand(pattern)? else { return Ok(None) };
        let files: Vec<PathBuf> = names.into_iter().map(PathBuf::from).collect();
        if let Some(missing) = files.iter().find(|path| !path.is_file()) {
            let got = format!("no such file: {}", missing.display());
            return Err(DataError::invalid(printable(pattern, 200), "files that exist", got));
        }
        Ok(Some(Self::single(Path::new(pattern), files)))
    }

    fn single(place: &Path, files: Vec<PathBuf>) -> Self {
        let folders = files.first().and_then(|file| file.parent()).map(Path::to_path_buf).into_iter().collect();
        Self { place: place.to_path_buf(), folders, splits: vec![(Split::Train, files)], has_splits: false }
    }

    /// The files in `root` with this extension: in the folder itself, with a split's name as a part of their own
    /// (`imagenet-train-0000.tar`) or without splits; in folders that have the names of splits; or in the folder `data` in
    /// one of these ways. `None` if there are none, or folders beside them other than training runs, as these may be the images
    /// themselves.
    ///
    /// # Errors
    /// [`DataError::File`] if a folder cannot be read; [`DataError::Invalid`] if some of the files belong to a split and
    /// others to none.
    pub(crate) fn find(root: &Path, extension: &str) -> Result<Option<Self>, DataError> {
        let (folders, _) = data_folders(root)?;
        if let [only] = &folders[..]
            && only.file_name().is_some_and(|name| name == HUB_FOLDER)
        {
            let (folders, _) = data_folders(only)?;
            let mut found = Self::within(only, &folders, extension)?;
            if let Some(found) = &mut found {
                found.folders.push(root.to_path_buf());
            }
            return Ok(found);
        }
        Self::within(root, &folders, extension)
    }

    /// The files in `root`, which has these folders, or in the folders.
    fn within(root: &Path, folders: &[PathBuf], extension: &str) -> Result<Option<Self>, DataError> {
        if folders.is_empty() {
            let files: Vec<PathBuf> = has_extension(&visible_entries(root)?, extension).cloned().collect();
            return if files.is_empty() { Ok(None) } else { Self::by_name(root, files).map(Some) };
        }
        let mut splits = Vec::new();
        for folder in folders {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            let Some(split) = Split::from_name(&name) else { return Ok(None) };
            let entries = visible_entries(folder)?;
            let files: Vec<PathBuf> = has_extension(&entries, extension).cloned().collect();
            if files.is_empty() || splits.iter().any(|(own, _)| *own == split) {
                return Ok(None);
            }
            splits.push((split, files));
        }
        splits.sort_unstable_by_key(|(split, _)| *split);
        let folders = vec![root.to_path_buf()];
        Ok(Some(Self { place: root.to_path_buf(), folders, splits, has_splits: true }))
    }

    /// Files of one folder, by the splits in their names.
    fn by_name(root: &Path, files: Vec<PathBuf>) -> Result<Self, DataError> {
        let mut splits: Vec<(Option<Split>, Vec<PathBuf>)> = Vec::new();
        for file in files {
            let split = split_in_name(&file);
            match splits.iter_mut().find(|(own, _)| *own == split) {
                Some((_, files)) => files.push(file),
                None => splits.push((split, vec![file])),
            }
        }
        let place = root.to_path_buf();
        let folders = vec![place.clone()];
        if let [(None, _)] = splits[..] {
            let splits = splits.into_iter().map(|(_, files)| (Split::Train, files)).collect();
            return Ok(Self { place, folders, splits, has_splits: false });
        }
        if let Some((_, files)) = splits.iter().find(|(split, _)| split.is_none()) {
            let name = files[0].file_name().unwrap_or_default().to_string_lossy();
            let got = format!("\"{}\"", printable(&name, 60));
            return Err(DataError::invalid(
                root.display(),
                "the name of a split in each shard's name, or in none",
                got,
            ));
        }
        splits.sort_unstable_by_key(|(split, _)| *split);
        let splits = splits.into_iter().filter_map(|(split, files)| Some((split?, files))).collect();
        Ok(Self { place, folders, splits, has_splits: true })
    }

    /// The splits, in order; none if the dataset is a single set.
    pub(crate) fn splits(&self) -> Vec<Split> {
        if self.has_splits { self.splits.iter().map(|(split, _)| *split).collect() } else { Vec::new() }
    }

    /// The shards of a split; none if there is no such split.
    pub(crate) fn files(&self, split: Split) -> &[PathBuf] {
        self.splits.iter().find(|(own, _)| *own == split).map_or(&[], |(_, files)| files)
    }

    /// Whether all shards have this extension.
    pub(crate) fn have_extension(&self, extension: &str) -> bool {
        self.splits.iter().all(|(_, files)| has_extension(files, extension).count() == files.len())
    }

    /// The folders in which a list of class names may lie, the nearest first.
    pub(crate) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// The dataset, and its split if it has some, for messages.
    pub(crate) fn describe(&self, split: Option<Split>) -> String {
        match split.filter(|_| self.has_splits) {
            Some(split) => format!("{} ({split})", self.place.display()),
            None => self.place.display().to_string(),
        }
    }
}

fn has_extension<'a>(paths: &'a [PathBuf], extension: &str) -> impl Iterator<Item = &'a PathBuf> {
    paths.iter().filter(move |path| path.extension().is_some_and(|own| own.eq_ignore_ascii_case(extension)))
}

/// The split that a file's name names: one of the words between hyphens, underscores and dots.
fn split_in_name(path: &Path) -> Option<Split> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    name.split(['-', '_', '.']).find_map(Split::from_name)
}

/// Whether a name has a group in braces, and so is a pattern.
pub(crate) fn is_pattern(name: &str) -> bool {
    name.find('{').is_some_and(|open| name[open..].contains('}'))
}

/// The names that a pattern stands for, as in a shell: `{a,b}` is each of these, `{08..11}` each number with as many digits.
/// `None` if there are no braces.
fn expand(pattern: &str) -> Result<Option<Vec<String>>, DataError> {
    if !is_pattern(pattern) {
        return Ok(None);
    }
    let fault = |expected: &str, got: &str| DataError::invalid(printable(pattern, 200), expected, printable(got, 60));
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((group, after)) = after.split_once('}') else { break };
        let choices = choices(group).ok_or_else(|| fault("a range {000..012} or a list {a,b} in braces", group))?;
        if names.len().saturating_mul(choices.len()) > MAX_SHARDS {
            return Err(fault(&format!("at most {MAX_SHARDS} shards"), "more"));
        }
        let joined = |name: &String| choices.iter().map(|choice| format!("{name}{before}{choice}")).collect::<Vec<_>>();
        names = names.iter().flat_map(joined).collect();
        rest = after;
    }
    names.iter_mut().for_each(|name| name.push_str(rest));
    Ok(Some(names))
}

/// The choices of a group in braces; `None` for a group that is neither a range nor a list, or of too many choices.
fn choices(group: &str) -> Option<Vec<String>> {
    if let Some((first, last)) = group.split_once("..") {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(first) || !is_number(last) {
            return None;
        }
        // With a leading zero on either side, all numbers have the digits of the longer one.
        let is_padded = [first, last].iter().any(|text| text.len() > 1 && text.starts_with('0'));
        let width = if is_padded { first.len().max(last.len()) } else { 0 };
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        if first.abs_diff(last) >= MAX_SHARDS as u64 {
            return None;
        }
        let number = |number: u64| format!("{number:0width$}");
        return Some(if first <= last {
            (first..=last).map(number).collect()
        } else {
            (last..=first).rev().map(number).collect()
        });
    }
    let parts: Vec<String> = group.split(',').map(str::to_owned).collect();
    (parts.len() > 1 && !group.contains('{')).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pattern: &str) -> Vec<String> {
        expand(pattern).unwrap().unwrap()
    }

    /// Bash's own results.
    #[test]
    fn braces_are_expanded_as_a_shell_does() {
        assert_eq!(names("a-{08..11}.tar"), ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]);
        assert_eq!(names("{9..11}"), ["9", "10", "11"]);
        assert_eq!(names("{1..03}"), ["01", "02", "03"]);
        assert_eq!(names("{2..0}"), ["2", "1", "0"]);
        assert_eq!(names("{a,b}{1..2}.tar"), ["a1.tar", "a2.tar", "b1.tar", "b2.tar"]);
        assert_eq!(names("x{,-y}"), ["x", "x-y"]);
        assert_eq!(names("{1..2}-{"), ["1-{", "2-{"]);
        assert!(expand("a{b").unwrap().is_none() && expand("a}b{").unwrap().is_none());
    }

    #[test]
    fn a_group_of_neither_kind_or_of_too_many_files_is_refused() {
        let message = |pattern: &str| expand(pattern).unwrap_err().to_string();
        assert_eq!(message("a{b}"), "a{b}: expected a range {000..012} or a list {a,b} in braces, got b");
        assert!(message("{0..99999999999}").contains("expected a range"));
        assert_eq!(message("{1..1000}{1..1000}"), "{1..1000}{1..1000}: expected at most 65536 shards, got more");
        assert!(message(&"{a,b}".repeat(60)).ends_with("expected at most 65536 shards, got more"));
    }

    #[test]
    fn a_split_is_a_word_of_a_name() {
        for (name, split) in [
            ("imagenet1k-validation-00.tar", Some(Split::Val)),
            ("train-00000-of-00002.parquet", Some(Split::Train)),
            ("TEST_3.tar", Some(Split::Test)),
            ("training.part.tar", Some(Split::Train)),
            ("trains-0.tar", None),
            ("shard-000.tar", None),
        ] {
            assert_eq!(split_in_name(Path::new(name)), split, "{name}");
        }
    }
}
