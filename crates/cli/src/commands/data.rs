//! `residual data list`, `fetch`, `convert` and `export`.

use crate::args::{ConvertData, ExportData, FetchData, Format};
use crate::failure::Failure;
use crate::output::{facts, path_text, print, print_json, quoted_path};
use crate::{Done, weights};
use residual::data::{self, Converted, DATASETS, NamedDataset, OFFICIAL, OfficialFile, Source};
use residual::files::nearest;
use residual::hub::HubName;
use std::path::Path;

/// The other values that `--data` accepts.
const OTHERS: [(&str, &str); 7] = [
    ("DIR", "a folder of photographs: DIR/<class>/…, or DIR/train, DIR/val and DIR/test with classes in them"),
    (
        "DIR",
        "a folder of tar shards (WebDataset), parquet files (Hugging Face), IDX files, or images with metadata.csv",
    ),
    ("FILE.csv", "a list of images with their labels; also .jsonl"),
    ("FILE.tar", "a tar shard, or several: 'train-{000..012}.tar'"),
    ("FILE.parquet", "images in a parquet file, or several"),
    ("FILE.npz", "numpy arrays train_images and train_labels, x_train and y_train, or images and labels"),
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
    let images = data::export(&source, folder)?;
    if arguments.format.json {
        print_json(&serde_json::json!({ "folder": path_text(folder), "images": images }))?;
    } else {
        let next = format!("residual train --data {}", quoted_path(folder));
        print(&facts(&[("folder", path_text(folder)), ("images", images.to_string()), ("next", next)]))?;
    }
    Ok(Done::Finished)
}

pub(crate) fn convert(arguments: &ConvertData) -> Result<Done, Failure> {
    let source = open(&arguments.name, arguments.data_dir.as_deref())?;
    let folder = &arguments.folder;
    let shard_bytes = u64::from(arguments.shard_size.get()) << 20;
    let Converted { images, files } = data::convert(&source, folder, arguments.to.into(), shard_bytes)?;
    if arguments.format.json {
        print_json(&serde_json::json!({ "folder": path_text(folder), "images": images, "files": files }))?;
        return Ok(Done::Finished);
    }
    let next = format!("residual train --data {}", quoted_path(folder));
    let rows =
        [("folder", path_text(folder)), ("images", images.to_string()), ("files", files.to_string()), ("next", next)];
    print(&facts(&rows))?;
    Ok(Done::Finished)
}

/// Downloads a dataset and installs it, unless it is there.
pub(crate) fn fetch(arguments: &FetchData) -> Result<Done, Failure> {
    let FetchData { name, data_dir, download, format } = arguments;
    let Some(set) = OFFICIAL.iter().find(|set| set.name == name) else {
        let names = OFFICIAL.map(|set| set.name);
        let hint = nearest(name, names).map_or_else(String::new, |known| format!(" (did you mean \"{known}\"?)"));
        return Err(Failure::usage(format!("data: expected {}, got \"{name}\"{hint}", names.join(", "))));
    };
    if Source::open(name, Some(data_dir)).is_err() {
        let path = |file: &OfficialFile| {
            let name = HubName::parse(file.url).transpose()?;
            let name = name.ok_or_else(|| Failure::new(format!("{}: expected an address", file.url)))?;
            weights::download_file(&name.with_sha256(file.sha256), *download)
        };
        let files = set.files.iter().map(path).collect::<Result<Vec<_>, Failure>>()?;
        set.install(&files, data_dir)?;
    }
    let source = Source::open(name, Some(data_dir))?;
    let lens = source.splits().into_iter().map(|split| Ok((split, source.split(split)?.len())));
    let lens = lens.collect::<Result<Vec<_>, Failure>>()?;
    if format.json {
        let images: usize = lens.iter().map(|(_, len)| len).sum();
        print_json(&serde_json::json!({ "name": name, "data_dir": path_text(data_dir), "images": images }))?;
        return Ok(Done::Finished);
    }
    let images: Vec<String> = lens.iter().map(|(split, len)| format!("{len} {split}")).collect();
    let next = format!("residual train --data {name} --data-dir {}", quoted_path(data_dir));
    print(&facts(&[("folder", path_text(data_dir)), ("images", images.join(", ")), ("next", next)]))?;
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
    Err(Failure::usage(format!(
        "data: expected {named}, a folder, a list, shards or a file of arrays, got \"{name}\"{hint}"
    )))
}
