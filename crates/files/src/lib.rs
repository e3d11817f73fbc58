//! File formats and I/O shared by the other crates.
//!
//! - [`atomic_write`], [`AtomicFile`] and [`atomic_folder`]: atomic writes; [`sweep`] removes the temporary files of killed processes.
//! - [`read_file`], [`read_text`] and [`read_bytes`]: bounded reads of regular files and pipes; [`read_part`]: a part of a file.
//! - [`images_below`]: the image files in a folder and its subfolders.
//! - [`pickle`]: Python pickles as data; [`parse_npy`], [`load_npy`] and [`save_npy`]: numpy arrays; [`save_tensors`] and
//!   [`safetensors_header`]: safetensors files; [`TarReader`] and [`TarWriter`]: tar archives.
//! - [`nearest`]: the most similar name, for hints; [`recognise`]: the kind of a file that is no weights file;
//!   [`printable`]: foreign text, escaped and truncated; [`csv_field`]: text in a CSV file; [`one_line`]: an error with its causes.
//!
//! Parsers take foreign bytes, never panic, and allocate no more than a stated bound before they have checked them.
#![forbid(unsafe_code)]

mod bytes;
mod csv;
mod error;
mod lock;
mod nearest;
mod npy;
mod one_line;
pub mod pickle;
mod printable;
mod read;
mod recognise;
mod safetensors;
mod tar;
mod walk;
mod write;

pub use bytes::{Bytes, read_bytes};
pub use csv::csv_field;
pub use error::{FileCause, FileError};
pub use lock::try_lock;
pub use nearest::nearest;
pub use npy::{NpyArray, NpyError, NpyValues, load_npy, npy_header, parse_npy, save_npy};
pub use one_line::one_line;
pub use printable::printable;
pub use read::{MAX_BYTES, open_file, read_file, read_part, read_text};
pub use recognise::recognise;
pub use safetensors::{HeaderError, MAX_HEADER, Metadata, StoredType, safetensors_header, save_tensors};
pub use tar::{TarEntry, TarError, TarReader, TarWriter};
pub use walk::{IMAGE_EXTENSIONS, Images, images_below, is_image, unsorted_entries, visible_entries};
pub use write::{AtomicFile, atomic_folder, atomic_write, publish, sweep};
