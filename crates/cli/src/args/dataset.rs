//! A dataset in place of files.

use super::Split;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct Images {
    /// The images of a dataset in place of files: a named one (residual data list), a folder, a list, shards or a file of arrays
    #[arg(long, value_name = "DATA", conflicts_with = "inputs")]
    pub(crate) data: Option<String>,
    /// Folder of the files of a named dataset
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The split of the dataset [default: test, else val, else all images]
    #[arg(long, value_enum)]
    pub(crate) split: Option<Split>,
    /// Only the first N images of it
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}
