//! Which columns of a parquet file hold images and labels: as its metadata of the Hugging Face library say, else by name and type.

use parquet::basic::Type as Physical;
use parquet::file::metadata::FileMetaData;
use residual_files::printable;
use serde_json::Value;

/// The key of the metadata of the Hugging Face library.
const KEY: &str = "huggingface";
/// The names of columns, the first of which is preferred.
const IMAGES: [&str; 3] = ["image", "img", "images"];
const LABELS: [&str; 4] = ["label", "labels", "class", "fine_label"];

/// The columns of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// The leaf columns of the images' bytes and of the labels.
    pub(super) bytes: usize,
    pub(super) label: usize,
    pub(super) label_name: String,
    /// The names of the classes.
    pub(super) names: Option<Vec<String>>,
    pub(super) note: Option<String>,
}

impl Columns {
    /// Those of a file. An error is what is expected, and what is there.
    pub(super) fn find(metadata: &FileMetaData) -> Result<Self, (String, String)> {
        let schema = metadata.schema_descr();
        let leaves: Vec<Vec<&str>> =
            schema.columns().iter().map(|column| column.path().parts().iter().map(String::as_str).collect()).collect();
        let is = |leaf: usize, types: &[Physical]| {
            types.contains(&schema.column(leaf).physical_type()) && schema.column(leaf).max_rep_level() == 0
        };
        let position = |path: &[&str]| leaves.iter().position(|leaf| leaf == path);
        let shown = || {
            let names: Vec<String> = leaves.iter().take(6).map(|leaf| printable(&leaf.join("."), 40)).collect();
            names.join(", ")
        };
        let features = features(metadata);
        let of_type = |wanted: &str| -> Vec<&str> {
            let is_wanted = |value: &Value| value.get("_type").and_then(Value::as_str) == Some(wanted);
            features.iter().filter(|(_, value)| is_wanted(value)).map(|(name, _)| name.as_str()).collect()
        };
        let bytes_of = |name: &str| {
            let leaf = position(&[name, "bytes"]).or_else(|| position(&[name]));
            leaf.filter(|&leaf| is(leaf, &[Physical::BYTE_ARRAY]))
        };
        let declared = of_type("Image");
        let images = choose(&declared, &IMAGES).or_else(|| IMAGES.into_iter().find(|name| bytes_of(name).is_some()));
        let bytes = images.and_then(bytes_of);
        let bytes = bytes.ok_or_else(|| ("a column of images, image.bytes or image".to_owned(), shown()))?;
        let label_of = |name: &str| {
            position(&[name]).filter(|&leaf| is(leaf, &[Physical::INT32, Physical::INT64, Physical::BYTE_ARRAY]))
        };
        let declared = of_type("ClassLabel");
        let name = choose(&declared, &LABELS).or_else(|| LABELS.into_iter().find(|name| label_of(name).is_some()));
        let label = name.and_then(|name| Some((name, label_of(name)?)));
        let (name, label) =
            label.ok_or_else(|| ("a column of labels, numbers or names, called label".to_owned(), shown()))?;
        let others: Vec<&str> = declared.iter().copied().filter(|other| *other != name).collect();
        let note = (!others.is_empty()).then(|| {
            format!("the labels are those of the column {name}, not of {}", printable(&others.join(", "), 100))
        });
        let names = features.iter().find(|(own, _)| own == name).and_then(|(_, value)| value.get("names"));
        let texts = |names: &Value| {
            let names = names.as_array()?.iter().map(|name| Some(name.as_str()?.to_owned()));
            names.collect::<Option<Vec<_>>>()
        };
        let other = || ("the names of the classes in its metadata".to_owned(), "other values".to_owned());
        let names = names.map(|names| texts(names).ok_or_else(other)).transpose()?;
        Ok(Self { bytes, label, label_name: name.to_owned(), names, note })
    }
}

/// The one of `preferred` that is declared, else the only one that is.
fn choose<'a>(declared: &[&'a str], preferred: &[&str]) -> Option<&'a str> {
    let known = preferred.iter().find_map(|name| declared.iter().copied().find(|own| own == name));
    known.or(if let [only] = declared[..] { Some(only) } else { None })
}

/// The columns that the Hugging Face library describes.
fn features(metadata: &FileMetaData) -> Vec<(String, Value)> {
    let entry = metadata.key_value_metadata().into_iter().flatten().find(|entry| entry.key == KEY);
    let text = entry.and_then(|entry| entry.value.as_deref()).unwrap_or_default();
    let Ok(Value::Object(mut root)) = serde_json::from_str(text) else { return Vec::new() };
    let features = root.get_mut("info").and_then(|info| info.get_mut("features")).map(Value::take);
    let Some(Value::Object(features)) = features else { return Vec::new() };
    features.into_iter().collect()
}
