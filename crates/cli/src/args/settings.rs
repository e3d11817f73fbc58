//! The flags that are keys of a recipe, under the same names.

use crate::failure::Failure;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// A layer over the preset and the recipe file: what is `None` was not typed.
#[derive(Args, Debug, Serialize)]
pub(crate) struct Settings {
    /// The network: a name (see `residual models list`), or a TOML file that describes it
    #[arg(long, value_name = "NAME|FILE", help_heading = "Model")]
    model: Option<String>,
    /// Outputs of the network [default: the dataset's classes]
    #[arg(long, value_name = "N", help_heading = "Model")]
    num_classes: Option<usize>,
    /// Channels of the network's input; a pretrained first convolution of others is adapted as timm does
    #[arg(long, value_name = "N", help_heading = "Model")]
    in_chans: Option<usize>,
    /// Weights to start from, a file, a run or a name (torchvision:resnet50.v2); a head of another size is replaced
    #[arg(long, value_name = "FILE|RUN|NAME", help_heading = "Model")]
    weights: Option<PathBuf>,
    /// How new weights are drawn
    #[arg(long, value_parser = ["he", "torch"], help_heading = "Model")]
    init: Option<String>,
    /// Start every residual block as the identity
    #[arg(long, help_heading = "Model", num_args = 0, default_missing_value = "true")]
    zero_init: Option<bool>,

    /// What is not trained: backbone (all but the head), N (the first N parts: stem, stages), layer1..layer3, modules, or
    /// several of these with commas between
    #[arg(long, value_name = "SPEC", help_heading = "Transfer")]
    freeze: Option<String>,
    /// What of it is trained from an epoch on, such as 3:layer4; may be given several times
    #[arg(long, value_name = "EPOCH:SPEC", help_heading = "Transfer")]
    unfreeze_at: Option<Vec<String>>,
    /// Batch norms of frozen modules (without --freeze: all) use their running statistics and keep them
    #[arg(long, help_heading = "Transfer", num_args = 0, default_missing_value = "true")]
    freeze_bn: Option<bool>,
    /// The head's learning rate over that of the layers before it
    #[arg(long, value_name = "X", help_heading = "Transfer")]
    head_lr_mult: Option<f64>,
    /// The learning rate of a block over that of the block behind it
    #[arg(long, value_name = "X", help_heading = "Transfer")]
    layer_decay: Option<f64>,
    /// Compute the features of a frozen backbone once, and train the head on them
    #[arg(long, help_heading = "Transfer", num_args = 0, default_missing_value = "true")]
    cache_features: Option<bool>,

    /// shapes10, cifar10, cifar100, a folder or a .safetensors file
    #[arg(long, value_name = "DATA", help_heading = "Data")]
    pub(crate) data: Option<String>,
    /// Where a named dataset lies
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    data_dir: Option<PathBuf>,
    /// Hold out this share of the training images, instead of what the dataset sets apart
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    val_split: Option<f64>,
    /// Images a step
    #[arg(long, short, value_name = "N", help_heading = "Data")]
    batch_size: Option<usize>,
    /// Take the images in the same order in every epoch
    #[arg(long = "no-shuffle", help_heading = "Data", num_args = 0, default_missing_value = "false")]
    shuffle: Option<bool>,
    /// How training images are varied
    #[arg(long, value_parser = ["none", "crop", "resized-crop"], help_heading = "Data")]
    augment: Option<String>,
    /// Padding before the crop of --augment crop
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    crop_padding: Option<usize>,
    /// Probability of a horizontal flip
    #[arg(long, value_name = "P", help_heading = "Data")]
    hflip: Option<f64>,
    /// Share of the area that --augment resized-crop keeps
    #[arg(long, value_name = "LOW,HIGH", value_delimiter = ',', help_heading = "Data")]
    scale: Option<Vec<f64>>,
    /// Width over height of --augment resized-crop
    #[arg(long, value_name = "LOW,HIGH", value_delimiter = ',', help_heading = "Data")]
    ratio: Option<Vec<f64>>,
    /// Leave out images that cannot be read, and list them
    #[arg(long, help_heading = "Data", num_args = 0, default_missing_value = "true")]
    skip_bad_images: Option<bool>,
    /// Threads that prepare images
    #[arg(long, short = 'j', value_name = "N", help_heading = "Data")]
    workers: Option<usize>,

    /// Mean of each channel, on a scale of 0 to 1
    #[arg(
        long,
        value_name = "R,G,B",
        value_delimiter = ',',
        allow_hyphen_values = true,
        help_heading = "Preprocessing"
    )]
    mean: Option<Vec<f64>>,
    /// Standard deviation of each channel, on the same scale
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', help_heading = "Preprocessing")]
    std: Option<Vec<f64>>,
    /// Side of the network's input in pixels
    #[arg(long, value_name = "PIXELS", help_heading = "Preprocessing")]
    img_size: Option<usize>,
    /// Share of the resized image that evaluation keeps
    #[arg(long, value_name = "SHARE", help_heading = "Preprocessing")]
    crop_pct: Option<f64>,
    /// The resizing filter
    #[arg(long, value_parser = ["bilinear", "bicubic"], help_heading = "Preprocessing")]
    interpolation: Option<String>,

    /// Length in passes over the data
    #[arg(long, value_name = "N", help_heading = "Training")]
    epochs: Option<u64>,
    /// Length in steps
    #[arg(long, value_name = "N", help_heading = "Training")]
    max_steps: Option<u64>,
    /// The (peak) learning rate
    #[arg(long, help_heading = "Training")]
    lr: Option<f64>,
    /// Momentum of SGD
    #[arg(long, help_heading = "Training")]
    momentum: Option<f64>,
    /// Nesterov's momentum
    #[arg(long, value_name = "true|false", help_heading = "Training", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    nesterov: Option<bool>,
    /// Weight decay
    #[arg(long, help_heading = "Training")]
    weight_decay: Option<f64>,
    /// Label smoothing
    #[arg(long, help_heading = "Training")]
    smoothing: Option<f64>,
    /// The course of the learning rate
    #[arg(long, value_parser = ["constant", "multistep", "cosine", "linear"], help_heading = "Training")]
    sched: Option<String>,
    /// Epochs at which --sched multistep multiplies the learning rate by --gamma
    #[arg(long, value_name = "N,N…", value_delimiter = ',', help_heading = "Training")]
    milestone_epochs: Option<Vec<u64>>,
    /// Steps at which it does
    #[arg(long, value_name = "N,N…", value_delimiter = ',', help_heading = "Training")]
    milestone_steps: Option<Vec<u64>>,
    /// What a milestone multiplies the learning rate by
    #[arg(long, help_heading = "Training")]
    gamma: Option<f64>,
    /// Where --sched cosine and linear end
    #[arg(long, help_heading = "Training")]
    min_lr: Option<f64>,
    /// Epochs over which the learning rate rises from zero
    #[arg(long, value_name = "N", help_heading = "Training")]
    warmup_epochs: Option<f64>,
    /// Steps over which it does
    #[arg(long, value_name = "N", help_heading = "Training")]
    warmup_steps: Option<u64>,
    /// Compute most values again on the way back: less memory, more time, the same result
    #[arg(long, help_heading = "Training", num_args = 0, default_missing_value = "true")]
    grad_checkpointing: Option<bool>,
    /// Decides initial weights, order and augmentation
    #[arg(long, value_name = "N", help_heading = "Training")]
    seed: Option<u64>,
    /// Steps between two that are logged
    #[arg(long, value_name = "N", help_heading = "Training")]
    log_every: Option<u64>,
    /// Steps between two checkpoints, beside those at every epoch's end
    #[arg(long, value_name = "N", help_heading = "Training")]
    checkpoint_every: Option<u64>,
}

impl Settings {
    /// Whether the network that was typed, if one was, is the one that is trained: weights may bring another.
    pub(crate) fn check_model(&self, trained: &str) -> Result<(), Failure> {
        match &self.model {
            Some(typed) if typed != trained => {
                Err(Failure::usage(format!("model: expected \"{trained}\", as the weights say, got \"{typed}\"")))
            }
            _ => Ok(()),
        }
    }
}
