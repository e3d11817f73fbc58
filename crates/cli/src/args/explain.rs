//! The arguments of `residual explain`.

use super::{Compute, Format, ImageArgs, Images, OUTPUT, Reading, Weights, at_least_one};
use clap::{ArgGroup, Args, ValueEnum};
use residual::explain::Method;
use std::num::NonZeroU16;
use std::path::PathBuf;

/// The heading of flags that say what is explained.
const SUBJECT: &str = "What is shown, in place of maps";
/// The heading of flags for maps.
const MAPS: &str = "Maps";

#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("subject").args(SUBJECTS),
    after_help = "Examples:\n  \
    residual explain --weights runs/1-resnet20-shapes10 photo.jpg -o cam.png\n  \
    residual explain --weights torchvision:resnet50.v2 photos --method grad-cam,layer-cam -o cam.svg\n  \
    residual explain --weights RUN --data cifar10 --limit 4 --class true --scores -o scored.png\n  \
    residual explain --weights RUN photo.jpg --feature-maps --layer layer1 -o maps.png\n  \
    residual explain --weights RUN --data shapes10 --patches --layer layer3 -o patches.png\n  \
    residual explain --weights RUN --data shapes10 --embedding tsne -o embedding.svg\n  \
    residual explain --weights RUN --data shapes10 --gradients -o gradients.svg"
)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) weights: Weights,
    /// Images or folders of images; their subfolders are the classes
    #[arg(required_unless_present_any = ["data", "filters"], value_name = "IMAGE|DIR")]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) images: Images,
    /// Layers: modules or nodes, as in `inspect` and `features` [default: maps explain the last feature map, pictures of
    /// filters and feature maps show the first convolution, embeddings are pooled]
    #[arg(long, visible_alias = "layers", value_name = "NODE,NODE…", value_delimiter = ',', value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) layer: Vec<String>,
    /// Seed of everything that is random
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,

    /// grad-cam, grad-cam++, layer-cam, hires-cam, eigen-cam, saliency, smooth-grad, integrated-gradients, occlusion; several
    /// are shown side by side [default: grad-cam]
    #[arg(long, value_name = "NAME,NAME…", value_delimiter = ',', value_parser = method, help_heading = MAPS, conflicts_with = "subject")]
    pub(crate) method: Vec<Method>,
    /// The class to explain: its name or number, true (of the image), top1, top2, …; repeated for several [default: top1]
    #[arg(long, value_name = "CLASS", help_heading = MAPS, conflicts_with = "subject")]
    pub(crate) class: Vec<String>,
    /// Explain the class's logit minus that of this class: what speaks for the one rather than the other
    #[arg(long, value_name = "CLASS", help_heading = MAPS, conflicts_with = "subject")]
    pub(crate) contrast: Option<String>,
    /// Score each map: insertion, deletion and ROAD
    #[arg(long, help_heading = MAPS, conflicts_with = "subject")]
    pub(crate) scores: bool,
    /// Check each map: shuffle the weights, from the last layer to the first, and correlate the map with the original
    #[arg(long, help_heading = MAPS, conflicts_with = "subject")]
    pub(crate) randomization_check: bool,
    /// Points on the path of integrated gradients [default: 50]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = MAPS, conflicts_with = "subject")]
    pub(crate) steps: Option<NonZeroU16>,
    /// Noisy copies of smooth-grad [default: 25]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = MAPS, conflicts_with = "subject")]
    pub(crate) samples: Option<NonZeroU16>,
    /// Standard deviation of smooth-grad's noise, as a share of the image's range [default: 0.15]
    #[arg(long, value_name = "SHARE", help_heading = MAPS, conflicts_with = "subject")]
    pub(crate) noise: Option<f32>,
    /// Side of occlusion's window in pixels [default: a quarter of the image]
    #[arg(long, value_name = "PIXELS", value_parser = at_least_one, help_heading = MAPS, conflicts_with = "subject")]
    pub(crate) window: Option<NonZeroU16>,
    /// Pixels between its windows [default: half a window]
    #[arg(long, value_name = "PIXELS", value_parser = at_least_one, help_heading = MAPS, conflicts_with = "subject")]
    pub(crate) stride: Option<NonZeroU16>,

    /// Feature maps: channels of the layer
    #[arg(long, help_heading = SUBJECT)]
    pub(crate) feature_maps: bool,
    /// Filters of a convolution
    #[arg(long, help_heading = SUBJECT)]
    pub(crate) filters: bool,
    /// The patches of images that excite channels most, cut to the receptive field
    #[arg(long, help_heading = SUBJECT)]
    pub(crate) patches: bool,
    /// A grid of images with their true and predicted classes
    #[arg(long, help_heading = SUBJECT)]
    pub(crate) predictions: bool,
    /// The images whose features are most similar, in --gallery or among the images themselves
    #[arg(long, help_heading = SUBJECT)]
    pub(crate) neighbours: bool,
    /// The images as points: the first two principal components of their features, or t-SNE (up to 5000 images)
    #[arg(long, value_enum, value_name = "KIND", help_heading = SUBJECT)]
    pub(crate) embedding: Option<Embedding>,
    /// Gradient flow: mean and largest gradient of each layer for one batch, without training
    #[arg(long, help_heading = SUBJECT)]
    pub(crate) gradients: bool,
    /// Mean, deviation and zeros of each layer's activations, and dead channels
    #[arg(long, help_heading = SUBJECT)]
    pub(crate) activations: bool,

    /// Channels of --feature-maps and --patches [default: the first 16, or 4 for patches]
    #[arg(long, value_name = "N,N…", value_delimiter = ',', help_heading = SUBJECT)]
    pub(crate) channels: Vec<usize>,
    /// Patches of each channel, or neighbours of each image [default: 8]
    #[arg(long, short = 'k', value_name = "K", value_parser = at_least_one, help_heading = SUBJECT)]
    pub(crate) top: Option<NonZeroU16>,
    /// The dataset in which --neighbours are looked for; for images that are files, --split, --limit and --data-dir are its
    #[arg(long, value_name = "DATA", help_heading = SUBJECT)]
    pub(crate) gallery: Option<String>,
    /// Effective number of neighbours of --embedding tsne [default: 30]
    #[arg(long, value_name = "X", help_heading = SUBJECT)]
    pub(crate) perplexity: Option<f64>,
    /// Learning rate at which --gradients relates an SGD update to the weights [default: 0.1]
    #[arg(long, value_name = "LR", help_heading = SUBJECT)]
    pub(crate) lr: Option<f64>,

    /// Batch size
    #[arg(long, short, visible_alias = "batch", value_name = "N", default_value = "16", value_parser = at_least_one)]
    pub(crate) batch_size: NonZeroU16,
    #[command(flatten)]
    pub(crate) reading: Reading,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) compute: Compute,
    /// The file to write: .png, .svg, or .npy for the numbers
    #[arg(long, short, visible_alias = "out", value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// The flags that say what is shown.
const SUBJECTS: [&str; 8] =
    ["feature_maps", "filters", "patches", "predictions", "neighbours", "embedding", "gradients", "activations"];

/// How features become points.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Embedding {
    Pca,
    Tsne,
}

/// What is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Maps,
    FeatureMaps,
    Filters,
    Patches,
    Predictions,
    Neighbours,
    Embedding(Embedding),
    Gradients,
    Activations,
}

impl Explain {
    pub(crate) fn subject(&self) -> Subject {
        let flags = [
            (self.feature_maps, Subject::FeatureMaps),
            (self.filters, Subject::Filters),
            (self.patches, Subject::Patches),
            (self.predictions, Subject::Predictions),
            (self.neighbours, Subject::Neighbours),
            (self.gradients, Subject::Gradients),
            (self.activations, Subject::Activations),
        ];
        let flag = flags.into_iter().find(|(is_given, _)| *is_given).map(|(_, subject)| subject);
        flag.or(self.embedding.map(Subject::Embedding)).unwrap_or(Subject::Maps)
    }
}

fn method(text: &str) -> Result<Method, String> {
    let names: Vec<&str> = Method::NAMES.iter().map(|(name, _)| *name).collect();
    Method::from_name(text).ok_or_else(|| format!("expected one of {}", names.join(", ")))
}
