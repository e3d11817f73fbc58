//! Tar shards of the WebDataset layout: for each image a file with its class's number, as `.cls`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use residual_files::{FileError, TarWriter};

use super::{EncodedImage, Shard};
use crate::DataError;
use crate::class_list::parse_class_list;

/// A shard that is being written.
pub(super) struct TarShard {
    path: PathBuf,
    writer: TarWriter<BufWriter<File>>,
}

impl Shard for TarShard {
    const EXTENSION: &'static str = "tar";

    fn create(path: &Path, _names: &[String]) -> Result<Self, DataError> {
        let file = File::create(path).map_err(FileError::write(path))?;
        Ok(Self { path: path.to_path_buf(), writer: TarWriter::new(BufWriter::new(file)) })
    }

    fn push(&mut self, index: usize, image: EncodedImage, label: u32) -> Result<(), DataError> {
        let Self { path, writer } = self;
        let mut append = |extension: &str, bytes: &[u8]| writer.append(&format!("{index:09}.{extension}"), bytes);
        let written = append(image.extension, &image.bytes).and_then(|()| append("cls", label.to_string().as_bytes()));
        Ok(written.map_err(FileError::write(path))?)
    }

    fn finish(self) -> Result<(), DataError> {
        let written = self.writer.finish().and_then(|mut file| file.flush());
        Ok(written.map_err(FileError::write(&self.path))?)
    }

    fn describe(folder: &Path, names: &[String]) -> Result<(), DataError> {
        let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
        let path = folder.join("classes.txt");
        // Names that lines cannot hold, such as those with spaces at an end, are told by JSON.
        let (path, text) = match parse_class_list(&lines, &path) {
            Ok(read) if read == names => (path, lines),
            _ => (folder.join("classes.json"), serde_json::json!(names).to_string()),
        };
        Ok(fs::write(&path, text).map_err(FileError::write(&path))?)
    }
}
