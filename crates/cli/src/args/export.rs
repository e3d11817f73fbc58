//! What `residual export` takes.

use super::{Format, ImageArgs, Weights};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct ExportWeights {
    #[command(flatten)]
    pub(crate) weights: Weights,
    /// What is written: a network that other programs run, or a checkpoint, whose tensors PyTorch reads
    #[arg(long, value_enum)]
    pub(crate) format: FileFormat,
    /// The file [default: the network's name in this folder]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Fold batch norms into the convolutions before them
    #[arg(long)]
    pub(crate) fold: bool,
    /// Run the ONNX file in another program's engine and fail if its results differ from ours
    #[arg(long)]
    pub(crate) verify: bool,
    /// Images to verify with [default: some of shapes10's]
    #[arg(long, value_name = "IMAGE", num_args = 1.., requires = "verify")]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) print: Format,
}

/// A kind of file that models are exported to.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileFormat {
    /// ONNX, for other programs
    Onnx,
    /// A checkpoint under torch's keys
    Safetensors,
}

impl FileFormat {
    /// As it is typed, and how such files' names end.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Safetensors => "safetensors",
        }
    }
}
