//! Lists in files of JSON lines: an object for each image.

use residual_files::printable;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

use super::rows::{Rows, WrittenRow};
use super::{LABEL_COLUMNS, MULTI_LABEL_COLUMNS, PATH_COLUMNS, Place, SPLIT_COLUMN};
use crate::DataError;

/// Adds the rows of a file of JSON lines to `rows`; false for metadata whose first row has no path or no label.
pub(super) fn read(bytes: &[u8], place: &Place<'_>, rows: &mut Rows) -> Result<bool, DataError> {
    let mut others = BTreeSet::new();
    let mut says_split = None;
    for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let invalid =
            |expected: &str, got: &str| DataError::invalid(format!("{}:{number}", place.file.display()), expected, got);
        let fields: Map<String, Value> = serde_json::from_slice(line)
            .map_err(|error| invalid("an object of JSON on each line", &printable(&error.to_string(), 100)))?;
        let find = |names: &[&'static str]| names.iter().find_map(|name| Some((*name, fields.get(*name)?)));
        let (path, label) = (find(&PATH_COLUMNS), find(&LABEL_COLUMNS));
        if place.is_metadata && says_split.is_none() && (path.is_none() || label.is_none()) {
            return Ok(false);
        }
        let Some((path_name, path)) = path else { return Err(invalid("a field called path", "none")) };
        let Value::String(path) = path else { return Err(invalid("the path of an image", "another value")) };
        let Some((label_name, label)) = label else { return Err(invalid("a field called label", "none")) };
        rows.multi_label |= MULTI_LABEL_COLUMNS.contains(&label_name) || label.is_array();
        let texts: Vec<String> = match label {
            Value::Null => Vec::new(),
            Value::Array(labels) => labels.iter().map(|label| text(label, &invalid)).collect::<Result<_, _>>()?,
            label => vec![text(label, &invalid)?],
        };
        let split = match fields.get(SPLIT_COLUMN) {
            None => None,
            Some(Value::String(split)) => Some(split.as_str()),
            Some(_) => return Err(invalid("a split: train, val or test", "another value")),
        };
        let expected = *says_split.get_or_insert(split.is_some());
        if expected != split.is_some() {
            return Err(invalid("a split in each row, or in none", if expected { "none" } else { "one" }));
        }
        let labels = texts.iter().map(|label| label.trim()).collect();
        rows.push(WrittenRow { path, labels, split }, place, &invalid)?;
        let is_used = |name: &str| [path_name, label_name, SPLIT_COLUMN].contains(&name);
        others.extend(fields.keys().filter(|name| !is_used(name)).take(SHOWN + 1).map(|name| printable(name, 60)));
        while others.len() > SHOWN + 1 {
            others.pop_last();
        }
    }
    if !others.is_empty() {
        let shown: Vec<String> = others.iter().take(SHOWN).map(|name| format!("\"{name}\"")).collect();
        let more = if others.len() > SHOWN { " and more" } else { "" };
        rows.notes.push(format!("{}: ignored the fields {}{more}", place.file.display(), shown.join(", ")));
    }
    if says_split == Some(true) {
        rows.has_splits = true;
    } else if place.is_metadata && place.within.is_none() {
        rows.take_split_folders(place)?;
    }
    Ok(true)
}

/// The most names of ignored fields in a note.
const SHOWN: usize = 5;

/// A label's name, or its number as text.
fn text(label: &Value, invalid: &dyn Fn(&str, &str) -> DataError) -> Result<String, DataError> {
    match label {
        Value::String(label) if !label.trim().is_empty() => Ok(label.clone()),
        Value::Number(number) if number.is_u64() => Ok(number.to_string()),
        _ => Err(invalid("a name, a number or an array of these as label", "another value")),
    }
}
