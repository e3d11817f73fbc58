//! The arguments of `residual export`.

use super::{Format, ImageArgs, OUTPUT, Weights};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    residual export --weights runs/1-resnet20-shapes10 -o shapes.onnx\n  \
    residual export --weights runs/1-resnet20-shapes10 --preprocess -o images.onnx\n  \
    residual export --weights torchvision:resnet50.v2 --format safetensors")]
pub(crate) struct ExportWeights {
    #[command(flatten)]
    pub(crate) weights: Weights,
    /// Fold batch norms into the convolutions before them
    #[arg(long)]
    pub(crate) fold: bool,
    /// Put the preprocessing into the ONNX file: it then takes images as decoded, N×H×W×C in bytes, of any height and width
    #[arg(long)]
    pub(crate) preprocess: bool,
    /// Let the ONNX file take normalised images of any height and width, if the network does
    #[arg(long, conflicts_with = "preprocess")]
    pub(crate) dynamic_size: bool,
    /// Run the ONNX file in another engine (rten), and fail if the logits differ
    #[arg(long)]
    pub(crate) verify: bool,
    /// Images to verify with [default: four of shapes10]
    #[arg(long, value_name = "IMAGE", num_args = 1.., requires = "verify")]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// The file's format: onnx for other programs, safetensors for PyTorch and residual [default: by the output's extension]
    #[arg(long, value_enum, help_heading = OUTPUT)]
    pub(crate) format: Option<FileFormat>,
    /// The file to write [default: the network's name, in this folder]
    #[arg(long, short, visible_alias = "out", value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) print: Format,
}

// The flag's help says what they are: with texts of their own, clap's help takes another layout.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileFormat {
    Onnx,
    Safetensors,
}

impl FileFormat {
    /// As it is typed, and the files' extension.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Safetensors => "safetensors",
        }
    }

    /// The format of files that are named like this one.
    pub(crate) fn of_file(path: &Path) -> Option<Self> {
        let extension = path.extension()?;
        [Self::Onnx, Self::Safetensors].into_iter().find(|format| extension.eq_ignore_ascii_case(format.name()))
    }
}
