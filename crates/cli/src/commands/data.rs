//! `residual data list` and `residual data export`.

use crate::Done;
use crate::args::{Export, Format};
use crate::failure::Failure;
use crate::output::{facts, print, print_json};
use residual::data::{Source, export as write};
use std::path::Path;

/// What `--data` takes by name, and what that is.
const NAMED: [(&str, &str); 3] = [
    ("shapes10", "built in: ten classes of shapes, 32×32, 10,000 to train on and 2,000 to test on"),
    ("cifar10", "ten classes of things, 32×32, 50,000 and 10,000; --data-dir with the official binary or python files"),
    ("cifar100", "a hundred classes of things, 32×32; --data-dir with the official binary or python files"),
];

/// What it takes besides.
const OTHERS: [(&str, &str); 2] = [
    ("DIR", "a folder of photographs: DIR/<class>/…, or DIR/train, DIR/val and DIR/test with classes in them"),
    ("FILE.safetensors", "tensors \"images\" (u8, or f32 that is normalised; N×C×H×W) and \"labels\""),
];

pub(crate) fn list(format: Format) -> Result<Done, Failure> {
    if format.json {
        let sets: Vec<_> = NAMED.iter().map(|(name, what)| serde_json::json!({ "name": name, "what": what })).collect();
        print_json(&serde_json::json!({ "datasets": sets }))?;
    } else {
        let rows: Vec<_> = NAMED.iter().chain(&OTHERS).map(|(name, what)| (*name, (*what).to_owned())).collect();
        print(&facts(&rows))?;
    }
    Ok(Done::Finished)
}

pub(crate) fn export(arguments: &Export) -> Result<Done, Failure> {
    let source = open(&arguments.name, arguments.data_dir.as_deref())?;
    let folder = &arguments.folder;
    let images = write(&source, folder)?;
    if arguments.format.json {
        print_json(&serde_json::json!({ "folder": folder, "images": images }))?;
    } else {
        let next = format!("residual train --data {}", folder.display());
        print(&facts(&[("folder", folder.display().to_string()), ("images", images.to_string()), ("next", next)]))?;
    }
    Ok(Done::Finished)
}

/// Finds a dataset; an unknown name is answered with the nearest one.
pub(crate) fn open(name: &str, data_dir: Option<&Path>) -> Result<Source, Failure> {
    check_name(name, data_dir)?;
    Ok(Source::open(name, data_dir)?)
}

/// Whether `name` is a dataset's or that of something that exists.
pub(crate) fn check_name(name: &str, data_dir: Option<&Path>) -> Result<(), Failure> {
    let exists = Path::new(name).exists() || data_dir.is_some_and(|folder| folder.join(name).exists());
    if exists || NAMED.iter().any(|(known, _)| *known == name) {
        return Ok(());
    }
    let similar = |(known, _): &(&'static str, &str)| (strsim::jaro_winkler(known, name), *known);
    let nearest =
        NAMED.iter().map(similar).max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(similarity, _)| *similarity > 0.75);
    let hint = nearest.map_or_else(String::new, |(_, known)| format!(" (did you mean \"{known}\"?)"));
    Err(Failure::usage(format!(
        "data: expected shapes10, cifar10, cifar100, a folder or a .safetensors file, got \"{name}\"{hint}"
    )))
}
