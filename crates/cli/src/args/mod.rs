//! The command line as typed.

mod export;
mod image;
mod settings;

pub(crate) use export::{ExportWeights, FileFormat};
pub(crate) use image::ImageArgs;
pub(crate) use settings::Settings;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::num::NonZeroU16;
use std::path::PathBuf;

/// Train, evaluate and use residual image classifiers on the CPU.
#[derive(Parser, Debug)]
#[command(name = "residual", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Train a network; with no flags, resnet20 on the built-in shapes
    Train(Box<Train>),
    /// Evaluate weights on a dataset
    Eval(Box<Eval>),
    /// Name what is in images
    Predict(Box<Predict>),
    /// Write what a network makes of images: pooled vectors, or the maps of any layer
    Features(Box<Features>),
    /// Show the layers of a network and what they cost
    Inspect(Inspect),
    /// Measure how fast networks run here
    Bench(Bench),
    /// Write weights as a file for other programs
    Export(Box<ExportWeights>),
    /// The networks
    Models {
        #[command(subcommand)]
        command: Models,
    },
    /// The datasets
    Data {
        #[command(subcommand)]
        command: Data,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Models {
    /// List the networks that --model takes
    List(Format),
}

#[derive(Subcommand, Debug)]
pub(crate) enum Data {
    /// List what --data takes
    List(Format),
    /// Write a dataset as a folder of PNG files: DIR/train/<class>/… and DIR/test/<class>/…
    Export(Export),
}

/// How the result is printed.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Format {
    /// Print the result as one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Threads {
    /// Threads that compute [default: all cores]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroU16>,
}

/// How a network that is only run forward is computed.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Compute {
    #[command(flatten)]
    pub(crate) threads: Threads,
    /// Keep the smallest form of the weights: up to four times less memory, but slower
    #[arg(long)]
    pub(crate) low_memory: bool,
    /// Measure which algorithm is fastest here for each convolution; remembered for the next time
    #[arg(long, conflicts_with = "low_memory")]
    pub(crate) autotune: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Train {
    /// A preset (shapes-quick, cifar-quick, folder-quick, he2015-cifar, lecture-cifar, imagenet-100) or a TOML file;
    /// given twice, the later one counts where both say something
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) recipe: Vec<String>,
    /// Go on with the run in this folder, from its last checkpoint
    #[arg(long, value_name = "RUN")]
    pub(crate) resume: Option<PathBuf>,
    /// Where run folders are made
    #[arg(long, value_name = "DIR", default_value = "runs", conflicts_with = "resume")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) download: Download,
    /// Measure which algorithm is fastest here for each convolution; remembered for the next time, and with the run
    #[arg(long, conflicts_with = "resume")]
    pub(crate) autotune: bool,
    #[command(flatten)]
    pub(crate) threads: Threads,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Whether what is not here may be brought here.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Download {
    /// Download nothing: weights by name must be here already
    #[arg(long)]
    pub(crate) offline: bool,
}

/// Which weights, and of what network.
#[derive(Args, Debug)]
pub(crate) struct Weights {
    /// A checkpoint, the folder of a run, a state dict (.safetensors, .pth, .pt, .th), or a name:
    /// torchvision:resnet50.v2, timm:resnet50.a1_in1k, hf:OWNER/REPOSITORY/FILE, https://…
    #[arg(long, value_name = "FILE|RUN|NAME")]
    pub(crate) weights: PathBuf,
    /// The network of a bare state dict: a name, or a TOML file that describes it; a checkpoint of ours brings its own
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) model: Option<String>,
    /// Channels of the images; a first convolution of others is adapted as timm does
    #[arg(long, value_name = "N")]
    pub(crate) in_chans: Option<usize>,
    #[command(flatten)]
    pub(crate) download: Download,
}

#[derive(Args, Debug)]
pub(crate) struct Eval {
    #[command(flatten)]
    pub(crate) weights: Weights,
    /// shapes10, cifar10, cifar100, a folder or a .safetensors file [default: what the weights were trained on]
    #[arg(long, value_name = "DATA")]
    pub(crate) data: Option<String>,
    /// Where a named dataset lies
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The part of the dataset, where it has parts
    #[arg(long, value_enum, default_value_t = Split::Test)]
    pub(crate) split: Split,
    /// Images at a time
    #[arg(long, short, value_name = "N", default_value = "100")]
    pub(crate) batch_size: NonZeroU16,
    /// Threads that prepare images
    #[arg(long, short = 'j', value_name = "N", default_value = "2")]
    pub(crate) workers: u8,
    /// Leave out images that cannot be read, and list them
    #[arg(long)]
    pub(crate) skip_bad_images: bool,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) compute: Compute,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
pub(crate) enum Split {
    Train,
    Val,
    Test,
}

#[derive(Args, Debug)]
pub(crate) struct Predict {
    #[command(flatten)]
    pub(crate) weights: Weights,
    /// Images, folders of images, or .npy files (N×3×H×W: f32 that is normalised, or u8 that is not)
    #[arg(required = true, value_name = "IMAGE|DIR|FILE.npy")]
    pub(crate) inputs: Vec<PathBuf>,
    /// Classes to name for each image
    #[arg(long, short = 'k', value_name = "K", default_value = "5")]
    pub(crate) top: NonZeroU16,
    /// Print the raw logits of every class instead
    #[arg(long)]
    pub(crate) logits: bool,
    /// Print the result as comma-separated values
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
    /// Images at a time
    #[arg(long, short, value_name = "N", default_value = "16")]
    pub(crate) batch_size: NonZeroU16,
    /// Leave out images that cannot be read, and list them
    #[arg(long)]
    pub(crate) skip_bad_images: bool,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) compute: Compute,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Features {
    #[command(flatten)]
    pub(crate) weights: Weights,
    /// Images or folders of images; the folders in these are the classes
    #[arg(required = true, value_name = "IMAGE|DIR")]
    pub(crate) inputs: Vec<PathBuf>,
    /// pooled (the vector before the head), C2 to C5 (the last maps of stride 4 to 32), modules or nodes
    #[arg(long, value_name = "NAME,NAME…", value_delimiter = ',', default_value = "pooled")]
    pub(crate) layers: Vec<String>,
    /// Where they go: .npy (one layer), .safetensors or .parquet
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Images at a time
    #[arg(long, short, value_name = "N", default_value = "16")]
    pub(crate) batch_size: NonZeroU16,
    /// Threads that prepare images
    #[arg(long, short = 'j', value_name = "N", default_value = "2")]
    pub(crate) workers: u8,
    /// Leave out images that cannot be read, and list them
    #[arg(long)]
    pub(crate) skip_bad_images: bool,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) compute: Compute,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// The name of a network, a TOML file that describes one, a checkpoint, the folder of a run, or the name of weights
    #[arg(value_name = "MODEL|WEIGHTS")]
    pub(crate) subject: String,
    /// The network of a bare state dict
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Outputs of a named network [default: as published]
    #[arg(long, value_name = "N")]
    pub(crate) num_classes: Option<usize>,
    /// Side of the image in pixels [default: what the network was made for]
    #[arg(long, value_name = "PIXELS")]
    pub(crate) img_size: Option<usize>,
    /// Show what the engine makes of it: every step, how it is computed, and what it takes
    #[arg(long)]
    pub(crate) plan: bool,
    /// Images at a time
    #[arg(long, short, value_name = "N", default_value = "1", requires = "plan")]
    pub(crate) batch: NonZeroU16,
    /// What the plan is for: an inference, or a step of training
    #[arg(long, value_enum, default_value_t = BenchMode::Infer, requires = "plan")]
    pub(crate) mode: BenchMode,
    /// Run the plan and show how long each step takes
    #[arg(long, requires = "plan")]
    pub(crate) measure: bool,
    #[command(flatten)]
    pub(crate) download: Download,
    #[command(flatten)]
    pub(crate) compute: Compute,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// Names of networks, TOML files that describe them, checkpoints, folders of runs, or names of weights
    #[arg(value_name = "MODEL|WEIGHTS", required = true)]
    pub(crate) models: Vec<String>,
    /// What is measured: the network, or a step of its training (forward, loss, backward, SGD)
    #[arg(long, value_enum, default_value_t = BenchMode::Infer)]
    pub(crate) mode: BenchMode,
    /// Images at a time
    #[arg(long, short, value_name = "N,N…", value_delimiter = ',', default_value = "1")]
    pub(crate) batch: Vec<NonZeroU16>,
    /// Side of the image in pixels [default: what the network was made for]
    #[arg(long, value_name = "PIXELS")]
    pub(crate) img_size: Option<usize>,
    /// Passes that are timed [default: two seconds, at least 10]
    #[arg(long, value_name = "N")]
    pub(crate) repeats: Option<NonZeroU16>,
    /// The network of bare state dicts among them
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Show where the time goes, node by node
    #[arg(long, conflicts_with = "serve")]
    pub(crate) layers: bool,
    /// Wait for lines "run N" on stdin and answer each with N times, for bench/compare.py
    #[arg(long, conflicts_with_all = ["json", "repeats"])]
    pub(crate) serve: bool,
    #[command(flatten)]
    pub(crate) download: Download,
    #[command(flatten)]
    pub(crate) compute: Compute,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// What `bench` measures.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BenchMode {
    /// An inference
    Infer,
    /// A step of training
    Train,
}

impl BenchMode {
    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Train => "train",
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// shapes10, cifar10, cifar100, a folder or a .safetensors file
    pub(crate) name: String,
    /// A new or empty folder
    pub(crate) folder: PathBuf,
    /// Where a named dataset lies
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: Format,
}
