//! Lists of class names beside the files that number their classes.

use std::path::{Path, PathBuf};

use residual_files::{FileCause, FileError, printable, read_text};

use crate::DataError;
use crate::folder::{MAX_CLASSES, check_distinct};

/// The names of such lists, in the order in which they are looked for.
const FILES: [&str; 5] = ["classes.txt", "labels.txt", "classnames.txt", "classes.json", "labels.json"];
/// Maximum size of a list.
const MAX_BYTES: u64 = 16 << 20;

/// The names of the classes 0, 1, …, from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClassList {
    pub(crate) file: PathBuf,
    pub(crate) names: Vec<String>,
}

impl ClassList {
    /// The list in the first of the `folders` that has one: `classes.txt`, `labels.txt`, `classnames.txt`, `classes.json` or
    /// `labels.json`.
    ///
    /// # Errors
    /// [`DataError::File`] if it cannot be read, else as [`parse_class_list`].
    pub(crate) fn find(folders: &[PathBuf]) -> Result<Option<Self>, DataError> {
        for folder in folders {
            for name in FILES {
                let file = folder.join(name);
                match read_text(&file, MAX_BYTES) {
                    Ok(text) => {
                        let names = parse_class_list(&text, &file)?;
                        return Ok(Some(Self { file, names }));
                    }
                    Err(FileError { cause: FileCause::Read(error), .. })
                        if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(None)
    }
}

/// Parses a list of class names: one a line, or in a file that ends in `.json` an array of names, or an object with each
/// name's number or each number's name.
///
/// # Errors
/// [`DataError::Invalid`] for an empty list, an empty name, a name or a number twice, numbers with gaps, more than 65,536
/// classes, or another JSON value.
pub fn parse_class_list(text: &str, file: &Path) -> Result<Vec<String>, DataError> {
    let place = file.display().to_string();
    let is_json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let names = if is_json {
        of_json(text).map_err(|got| DataError::invalid(&place, "class names, or names with their numbers", got))?
    } else {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_end();
        text.lines().map(|line| line.trim().to_owned()).collect()
    };
    if names.len() > MAX_CLASSES {
        return Err(DataError::invalid(place, format!("at most {MAX_CLASSES} classes"), names.len()));
    }
    if let Some(number) = names.iter().position(String::is_empty) {
        return Err(DataError::invalid(place, "a name for each class", format!("none for class {number}")));
    }
    if names.is_empty() {
        return Err(DataError::invalid(place, "class names", "none"));
    }
    check_distinct(names.iter().map(String::as_str), &place)?;
    Ok(names)
}

fn of_json(text: &str) -> Result<Vec<String>, String> {
    let shown = |error: serde_json::Error| printable(&error.to_string(), 100);
    match serde_json::from_str(text).map_err(shown)? {
        serde_json::Value::Array(values) => {
            let name = |value: serde_json::Value| match value {
                serde_json::Value::String(name) => Ok(name),
                _ => Err("an array of other values".to_owned()),
            };
            values.into_iter().map(name).collect()
        }
        serde_json::Value::Object(fields) => {
            let mut numbered = Vec::with_capacity(fields.len());
            for (key, value) in fields {
                let pair = match value {
                    serde_json::Value::String(name) => key.parse().ok().map(|number: usize| (number, name)),
                    value => value.as_u64().map(|number| (number as usize, key)),
                };
                numbered.push(pair.ok_or("an object of other values")?);
            }
            numbered.sort_unstable();
            if numbered.iter().enumerate().any(|(at, (number, _))| at != *number) {
                return Err("numbers other than 0, 1, 2 and so on".into());
            }
            Ok(numbered.into_iter().map(|(_, name)| name).collect())
        }
        _ => Err("another value".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, file: &str) -> Result<Vec<String>, String> {
        parse_class_list(text, Path::new(file)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_is_lines_or_json_of_names_or_of_numbers() {
        let expected = ["cat", "owl, barn"];
        assert_eq!(parse("\u{feff}cat\r\nowl, barn\n\n", "classes.txt").unwrap(), expected);
        for json in [r#"["cat","owl, barn"]"#, r#"{"owl, barn":1,"cat":0}"#, r#"{"1":"owl, barn","0":"cat"}"#] {
            assert_eq!(parse(json, "classes.json").unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn a_list_with_a_gap_or_a_name_twice_is_refused() {
        for (text, file, message) in [
            ("", "c.txt", "c.txt: expected class names, got none"),
            ("a\n\nb", "c.txt", "c.txt: expected a name for each class, got none for class 1"),
            ("a\na", "c.txt", "c.txt: expected a name of its own for each class, got \"a\" twice"),
            ("[\"a\",1]", "c.json", "an array of other values"),
            ("{\"a\":0,\"b\":2}", "c.json", "numbers other than 0, 1, 2 and so on"),
            ("{\"a\":0,\"b\":0}", "c.json", "numbers other than 0, 1, 2 and so on"),
            ("{\"a\":-1}", "c.json", "an object of other values"),
            ("3", "c.json", "got another value"),
            ("[", "c.json", "EOF while parsing"),
        ] {
            let error = parse(text, file).unwrap_err();
            assert!(error.contains(message) && error.lines().count() == 1, "{text}: {error}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse(&deep, "c.json").unwrap_err().contains("recursion limit"));
    }
}
