//! `residual data list` and `residual data export`.

use crate::Done;
use crate::args::{ExportData, Format};
use crate::failure::Failure;
use crate::output::{facts, path_text, print, print_json, quoted_path};
use residual::data::{DATASETS, NamedDataset, Source, export as write};
use residual::files::nearest;
use std::path::Path;

/// The other values that `--data` accepts.
const OTHERS: [(&str, &str); 2] = [
    ("DIR", "a folder of photographs: DIR/<class>/…, or DIR/train, DIR/val and DIR/test with classes in them"),
    ("FILE.safetensors", "tensors \"images\" (u8, or f32 that is normalised; N×C×H×W) and \"labels\""),
];

pub(crate) fn list(format: Format) -> Result<Done, Failure> {
    if format.json {
        let json = |set: &NamedDataset| serde_json::json!({ "name": set.name, "what": set.description });
        let sets: Vec<_> = DATASETS.iter().map(json).collect();
        print_json(&serde_json::json!({ "datasets": sets }))?;
    } else {
        let named = DATASETS.iter().map(|set| (set.name, set.description));
        let rows: Vec<_> = named.chain(OTHERS).map(|(name, what)| (name, what.to_owned())).collect();
        print(&facts(&rows))?;
    }
    Ok(Done::Finished)
}

pub(crate) fn export(arguments: &ExportData) -> Result<Done, Failure> {
    let source = open(&arguments.name, arguments.data_dir.as_deref())?;
    let folder = &arguments.folder;
    let images = write(&source, folder)?;
    if arguments.format.json {
        print_json(&serde_json::json!({ "folder": path_text(folder), "images": images }))?;
    } else {
        let next = format!("residual train --data {}", quoted_path(folder));
        print(&facts(&[("folder", path_text(folder)), ("images", images.to_string()), ("next", next)]))?;
    }
    Ok(Done::Finished)
}

/// Opens a dataset; the error for an unknown name suggests the nearest one.
pub(crate) fn open(name: &str, data_dir: Option<&Path>) -> Result<Source, Failure> {
    check_name(name, data_dir)?;
    Ok(Source::open(name, data_dir)?)
}

/// Refuses a name that is neither a dataset's nor a path that exists.
pub(crate) fn check_name(name: &str, data_dir: Option<&Path>) -> Result<(), Failure> {
    if Source::is_known(name, data_dir) {
        return Ok(());
    }
    let nearest = nearest(name, DATASETS.iter().map(|set| set.name));
    let hint = nearest.map_or_else(String::new, |known| format!(" (did you mean \"{known}\"?)"));
    let named = DATASETS.map(|set| set.name).join(", ");
    Err(Failure::usage(format!("data: expected {named}, a folder or a .safetensors file, got \"{name}\"{hint}")))
}
