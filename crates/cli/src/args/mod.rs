//! The command line as typed.

mod bench;
mod compress;
mod data;
mod dataset;
mod distill;
mod doctor;
mod eval;
mod explain;
mod export;
mod features;
mod image;
mod inspect;
mod judged;
mod lists;
mod peers;
mod predict;
mod prune;
mod quantize;
mod report;
mod reproduce;
mod search;
mod settings;
mod train;
mod tune;

pub(crate) use bench::{Bench, BenchMode};
pub(crate) use compress::Compress;
pub(crate) use data::{ConvertData, Data, ExportData, FetchData};
pub(crate) use dataset::Images;
pub(crate) use distill::Distill;
pub(crate) use doctor::Doctor;
pub(crate) use eval::Eval;
pub(crate) use explain::{Embedding, Explain, Subject};
pub(crate) use export::{ExportWeights, FileFormat};
pub(crate) use features::Features;
pub(crate) use image::ImageArgs;
pub(crate) use inspect::Inspect;
pub(crate) use judged::{Judged, Split};
pub(crate) use lists::{Average, CompareRuns, ListModels, ListRuns, Models, Recipes, Runs, VerifyRecipes};
pub(crate) use peers::{explain, translate};
pub(crate) use predict::Predict;
pub(crate) use prune::Prune;
pub(crate) use quantize::Quantize;
pub(crate) use report::Report;
pub(crate) use reproduce::Reproduce;
pub(crate) use search::Search;
pub(crate) use settings::{FinetuneSettings, Settings};
pub(crate) use train::Train;
pub(crate) use tune::Tune;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use residual::Isa;
use residual::engine::Elements;
use residual::preprocess::Views;
use std::num::NonZeroU16;
use std::path::PathBuf;

/// The heading of preprocessing flags.
const PREPROCESSING: &str = "Preprocessing";
/// The heading of flags for threads, memory and algorithms.
const COMPUTE: &str = "Compute";
/// The heading of flags for the output.
const OUTPUT: &str = "Output";

/// Train, evaluate and use residual image classifiers on the CPU.
#[derive(Parser, Debug)]
#[command(
    name = "residual",
    version,
    long_version = long_version(),
    max_term_width = 100,
    after_help = "Examples:\n  \
        residual train                                           a first run, on generated images\n  \
        residual train --data photos --weights torchvision:resnet18.v1\n  \
        residual eval --weights runs/1-resnet20-shapes10\n  \
        residual predict --weights runs/1-resnet20-shapes10 photo.jpg\n\n\
        Results go to stdout (with --json as one JSON document), progress and errors to stderr.\n\n\
        Exit codes:\n  0    done\n  1    failed\n  2    wrong usage\n  130  interrupted (Ctrl-C, SIGTERM); train has saved a checkpoint"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How messages on stderr are shown.
#[derive(Args, Debug, Clone, Copy, Default)]
pub(crate) struct Global {
    /// Print nothing but the result and errors
    #[arg(long, short, global = true, help_heading = OUTPUT)]
    pub(crate) quiet: bool,
    /// Plain lines instead of a live progress bar
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub(crate) no_progress: bool,
    /// Colour errors; auto does on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto", help_heading = OUTPUT)]
    pub(crate) color: Color,
}

/// When errors are coloured.
#[derive(clap::ValueEnum, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Train a network; with no flags, resnet20 on the built-in shapes
    Train(Box<Train>),
    /// Evaluate weights on a dataset: accuracy and loss
    Eval(Box<Eval>),
    /// Classify images
    Predict(Box<Predict>),
    /// Extract features: pooled embeddings, or feature maps of any layer
    Features(Box<Features>),
    /// Show what a network looks at: class activation maps, feature maps, embeddings, gradient flow
    Explain(Box<Explain>),
    /// Show the layers of a network: parameters, multiply-accumulates, receptive field
    Inspect(Inspect),
    /// Benchmark inference or training speed
    Bench(Bench),
    /// Train a network to imitate another one, its teacher
    Distill(Box<Distill>),
    /// Quantize weights to 8 bits, and measure what that costs and gains
    Quantize(Box<Quantize>),
    /// Remove channels, blocks or single weights, and measure what that costs and gains
    Prune(Box<Prune>),
    /// Distil, prune and quantize to several networks, and choose one within a budget
    Compress(Box<Compress>),
    /// Search for the most accurate network within a limit of size or time
    Search(Box<Search>),
    /// Find out what is wrong with a dataset, before training on it
    Doctor(Box<Doctor>),
    /// Search for the best settings of a recipe
    Tune(Box<Tune>),
    /// Export weights to ONNX or safetensors
    Export(Box<ExportWeights>),
    /// Average the weights of several checkpoints of a network
    Average(Average),
    /// List networks
    Models {
        #[command(subcommand)]
        command: Models,
    },
    /// List, download, convert or export datasets
    Data {
        #[command(subcommand)]
        command: Data,
    },
    /// List, print or verify the built-in recipes
    Recipes {
        #[command(subcommand)]
        command: Recipes,
    },
    /// List or compare training runs
    Runs {
        #[command(subcommand)]
        command: Runs,
    },
    /// Write the report of a run as a page: curves, confusion, mistakes, calibration; or compare several runs
    Report(Report),
    /// Check claims of papers and lecture notes by running them
    Reproduce(Reproduce),
    /// Write the manual pages: residual.1, residual-train.1, …
    Man {
        /// A folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Print the completion script of a shell
    #[command(
        after_help = "Example:\n  residual completions bash > ~/.local/share/bash-completion/completions/residual"
    )]
    Completions { shell: Shell },
}

/// The version, the Cargo features, and the instruction sets of this machine.
fn long_version() -> String {
    let features: Vec<&str> =
        [("hub", cfg!(feature = "hub")), ("parquet", cfg!(feature = "parquet")), ("verify", cfg!(feature = "verify"))]
            .into_iter()
            .filter_map(|(name, built)| built.then_some(name))
            .collect();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(", ") };
    let sets: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
    let version = env!("CARGO_PKG_VERSION");
    format!("{version}\nfeatures: {features}\ninstruction sets of this machine: {}", sets.join(", "))
}

/// How the result is printed.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Format {
    /// Print the result as one JSON document
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
}

#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Threads {
    /// Compute threads [default: all cores]
    #[arg(long, value_name = "N", help_heading = COMPUTE, value_parser = at_least_one)]
    pub(crate) threads: Option<NonZeroU16>,
}

/// How inference is computed.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Compute {
    #[command(flatten)]
    pub(crate) threads: Threads,
    /// Store weights in their most compact form: up to four times less memory, but slower
    #[arg(long, help_heading = COMPUTE)]
    pub(crate) low_memory: bool,
    /// Measure the fastest algorithm for each convolution on this machine, and cache the results
    #[arg(long, help_heading = COMPUTE, conflicts_with = "low_memory")]
    pub(crate) autotune: bool,
}

/// The type of the numbers of inference.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Precision {
    /// Numbers that convolutions read, multiply and write: f32, or bf16 with sums in f32: half the memory, and faster on processors that
    /// multiply bf16 (AVX512_BF16)
    #[arg(long, value_name = "TYPE", default_value = "f32", help_heading = COMPUTE, value_parser = elements, conflicts_with = "autotune")]
    pub(crate) precision: Elements,
}

/// The elements of this name.
fn elements(text: &str) -> Result<Elements, String> {
    match Elements::from_name(text) {
        Some(elements) => Ok(elements),
        None => Err(format!("expected {}", Elements::NAMES.map(|(name, _)| name).join(" or "))),
    }
}

/// Test-time augmentation.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct TestTime {
    /// Test-time augmentation: average the logits of several views of an image: none, flip (2 views), five-crop (5) or
    /// ten-crop (10), or the number of views
    #[arg(long, value_name = "VIEWS", default_value = "none", help_heading = PREPROCESSING, value_parser = views)]
    pub(crate) tta: Views,
}

/// The views of this name or number; 0 is none too, as in timm.
fn views(text: &str) -> Result<Views, String> {
    let is_it = |(name, views): &&(&str, Views)| {
        *name == text || name.strip_suffix("-crop") == Some(text) || text.parse() == Ok(views.count())
    };
    match Views::NAMES.iter().find(is_it) {
        Some((_, views)) => Ok(*views),
        None if text == "0" => Ok(Views::Single),
        None => Err("expected none, flip, five-crop, ten-crop, or 1, 2, 5 or 10 views".to_owned()),
    }
}

/// How images are read.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// Data-loading threads
    #[arg(long, short = 'j', value_name = "N", default_value = "2", help_heading = COMPUTE)]
    pub(crate) workers: u8,
    /// Skip images that cannot be read, and list them
    #[arg(long)]
    pub(crate) skip_bad_images: bool,
}

/// Whether missing weights may be downloaded.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Download {
    /// Do not download: named weights must be in the cache
    #[arg(long)]
    pub(crate) offline: bool,
}

/// The weights and their network.
#[derive(Args, Debug)]
pub(crate) struct Weights {
    /// A checkpoint, a run folder (its best weights), a state dict (.safetensors, .pth, .pt, .th), or a name:
    /// torchvision:resnet50.v2, timm:resnet50.a1_in1k, hf:OWNER/REPOSITORY/FILE, https://…
    #[arg(long, value_name = "FILE|RUN|NAME")]
    pub(crate) weights: PathBuf,
    /// The network of a bare state dict: a name, or a TOML file that describes it. Not needed for checkpoints
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) model: Option<String>,
    /// Input channels; the first convolution of pretrained weights is adapted as in timm
    #[arg(long, value_name = "N")]
    pub(crate) in_chans: Option<usize>,
    /// Class names, one a line by output: imagenet, cifar10, cifar100 or a file [default: those of the weights]
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) labels: Option<String>,
    #[command(flatten)]
    pub(crate) download: Download,
}

/// A number of 1 to 65535.
pub(crate) fn at_least_one(text: &str) -> Result<NonZeroU16, String> {
    text.parse().map_err(|_| "expected a number of 1 to 65535".to_owned())
}
