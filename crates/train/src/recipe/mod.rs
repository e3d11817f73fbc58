//! What a training run is told: model, data, length, optimiser, schedule, augmentation.
//!
//! A [`Recipe`] is resolved from [`Layer`]s of rising precedence (preset, file, flags), written in full to the run
//! folder as `config.toml`, and read back from there by a resume.

mod layer;
mod resolve;
mod validate;

pub use layer::{Layer, PRESETS, Preset};

use residual_files::FileError;
use residual_preprocess::Interpolation;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The course of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sched {
    /// `lr` throughout.
    #[default]
    Constant,
    /// `lr × gammaⁿ` after n milestones, which count from the start of training (torch's `MultiStepLR`).
    Multistep,
    /// Half a cosine from `lr` to `min_lr` over the steps after the warm-up (torch's `CosineAnnealingLR`).
    Cosine,
    /// A straight line from `lr` to `min_lr` over the steps after the warm-up.
    Linear,
}

/// How training images are varied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augment {
    /// Not at all: training sees what evaluation sees.
    #[default]
    None,
    /// A crop of the padded image at a random place, and a flip (He et al. 2015, section 4.2).
    Crop,
    /// A random part of the image, resized, and a flip (torchvision's `RandomResizedCrop`).
    ResizedCrop,
}

/// How new weights are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// Kaiming normal, fan-out, as torchvision's ResNet does; for networks of layer norms a normal of deviation 0.02, as
    /// its ConvNeXt does.
    #[default]
    He,
    /// The defaults of torch's modules.
    Torch,
}

/// Everything that decides a training run, with the names that recipe files and flags use.
///
/// Fields that are `None` are left to the dataset, the given weights or the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// The network: a name from the registry, or a TOML file that describes it.
    pub model: String,
    /// Outputs of the network; the dataset's classes when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_classes: Option<usize>,
    /// Channels of the network's input; the network's own, or its description's, when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_chans: Option<usize>,
    /// Weights to start from: a file, the name of weights that lie elsewhere, or nothing for new ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// How new weights are drawn.
    pub init: Init,
    /// Whether the last batch norm of a block starts at zero (Goyal et al. 2017, section 5.1).
    pub zero_init: bool,

    /// The dataset: `shapes10`, `cifar10`, `cifar100`, a folder or a `.safetensors` file.
    pub data: String,
    /// Where a named dataset lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// The share of the training images that is held out; without it, what the dataset itself sets apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_split: Option<f64>,
    /// Images a step.
    pub batch_size: usize,
    /// Whether every epoch has its own order.
    pub shuffle: bool,
    /// How training images are varied.
    pub augment: Augment,
    /// Pixels of padding on every side before the crop of [`Augment::Crop`].
    pub crop_padding: usize,
    /// Probability of a horizontal flip.
    pub hflip: f64,
    /// Least and largest share of the image's area in [`Augment::ResizedCrop`].
    pub scale: [f64; 2],
    /// Least and largest width over height in [`Augment::ResizedCrop`].
    pub ratio: [f64; 2],
    /// Side of the network's input in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub img_size: Option<usize>,
    /// Share of the resized image that evaluation keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_pct: Option<f64>,
    /// The resizing filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<Interpolation>,
    /// Mean of each channel, on a scale of 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<Vec<f64>>,
    /// Standard deviation of each channel, on the same scale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<Vec<f64>>,

    /// Length in passes over the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Length in steps. With `epochs` as well, the shorter counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// The (peak) learning rate.
    pub lr: f64,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Whether the momentum is Nesterov's.
    pub nesterov: bool,
    /// Weight decay, added to the gradient of every parameter as torch's SGD does.
    pub weight_decay: f64,
    /// The share of the target that is spread over all classes.
    pub smoothing: f64,
    /// What is not trained: `backbone` (all but the head), a number of parts from the beginning, a range of modules
    /// `layer1..layer3`, module paths, or several of these with commas between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze: Option<String>,
    /// What of it is trained from an epoch on, counted from 1: `3:layer4`, each with what `freeze` may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfreeze_at: Option<Vec<String>>,
    /// Whether batch norms of frozen modules, and without `freeze` all, use their running statistics and keep them.
    pub freeze_bn: bool,
    /// The head's learning rate over that of the layers before it.
    pub head_lr_mult: f64,
    /// The learning rate of a block over that of the block behind it (timm's `layer_decay`).
    pub layer_decay: f64,
    /// Whether the features of a frozen backbone are computed once and kept in memory.
    pub cache_features: bool,
    /// The course of the learning rate.
    pub sched: Sched,
    /// Milestones of [`Sched::Multistep`] in epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milestone_epochs: Option<Vec<u64>>,
    /// Milestones of [`Sched::Multistep`] in steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milestone_steps: Option<Vec<u64>>,
    /// What every milestone multiplies the learning rate by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// Where [`Sched::Cosine`] and [`Sched::Linear`] end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_lr: Option<f64>,
    /// Epochs, fractions allowed, over which the learning rate rises from zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_epochs: Option<f64>,
    /// Steps over which the learning rate rises from zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
    /// Decides initial weights, order and augmentation.
    pub seed: u64,

    /// Whether the backward pass computes most values again, which takes less memory and more time. Changes no result.
    pub grad_checkpointing: bool,
    /// Threads that prepare images. Changes no result.
    pub workers: usize,
    /// Steps between two logged ones. Changes no result.
    pub log_every: u64,
    /// Steps between two checkpoints beside those at every epoch's end. Changes no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<u64>,
    /// Whether images that cannot be read are left out and listed, instead of ending the run.
    pub skip_bad_images: bool,
}

impl Default for Recipe {
    /// A plain SGD of one epoch, which every preset builds on.
    fn default() -> Self {
        Self {
            model: "resnet20".into(),
            num_classes: None,
            in_chans: None,
            weights: None,
            init: Init::He,
            zero_init: false,
            data: "shapes10".into(),
            data_dir: None,
            val_split: None,
            batch_size: 128,
            shuffle: true,
            augment: Augment::None,
            crop_padding: 4,
            hflip: 0.0,
            scale: [0.08, 1.0],
            ratio: [0.75, 4.0 / 3.0],
            img_size: None,
            crop_pct: None,
            interpolation: None,
            mean: None,
            std: None,
            epochs: None,
            max_steps: None,
            lr: 0.1,
            momentum: 0.9,
            nesterov: false,
            weight_decay: 0.0,
            smoothing: 0.0,
            freeze: None,
            unfreeze_at: None,
            freeze_bn: false,
            head_lr_mult: 1.0,
            layer_decay: 1.0,
            cache_features: false,
            sched: Sched::Constant,
            milestone_epochs: None,
            milestone_steps: None,
            gamma: None,
            min_lr: None,
            warmup_epochs: None,
            warmup_steps: None,
            seed: 0,
            grad_checkpointing: false,
            workers: 2,
            log_every: 20,
            checkpoint_every: None,
            skip_bad_images: false,
        }
    }
}

impl Recipe {
    /// The recipe as the text of a TOML file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every field of a recipe has a TOML form")
    }

    /// The first field, in file order, that decides the result and differs from `other`'s: its name, and what it
    /// holds here and there. Where the data lies, how many threads prepare it, what is computed twice and what is logged decide nothing;
    /// leaving bad images out is allowed to begin with a resume.
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        const FREE: [&str; 6] =
            ["data_dir", "grad_checkpointing", "workers", "log_every", "checkpoint_every", "skip_bad_images"];
        let (ours, theirs) = (self.table(), other.table());
        layer::keys().iter().filter(|key| !FREE.contains(&key.as_str())).find_map(|key| {
            let show = |table: &toml::Table| table.get(key).map_or_else(|| "none".into(), toml::Value::to_string);
            let (expected, got) = (show(&ours), show(&theirs));
            (expected != got).then(|| Difference { field: key.clone(), expected, got })
        })
    }

    /// The epochs, from 1, of `unfreeze_at`, and what is trained from there on.
    ///
    /// # Errors
    /// [`RecipeError::Field`] if one is not an epoch and what it thaws.
    pub(crate) fn thaws(&self) -> Result<Vec<(u64, &str)>, RecipeError> {
        fn thaw(text: &str) -> Option<(u64, &str)> {
            let (epoch, spec) = text.split_once(':')?;
            let epoch = epoch.trim().parse().ok().filter(|epoch| (2..=1 << 20).contains(epoch))?;
            Some((epoch, spec)).filter(|(_, spec)| !spec.trim().is_empty())
        }
        let fail = |text: &str| RecipeError::Field {
            field: "unfreeze_at",
            expected: "EPOCH:MODULES, with an epoch from 2".into(),
            got: format!("\"{text}\""),
        };
        let texts = self.unfreeze_at.iter().flatten();
        texts.map(|text| thaw(text).ok_or_else(|| fail(text))).collect()
    }

    fn table(&self) -> toml::Table {
        toml::Table::try_from(self).expect("every field of a recipe has a TOML form")
    }
}

/// One field in which two recipes differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field's name.
    pub field: String,
    /// Its value in the first recipe, in TOML, or `none`.
    pub expected: String,
    /// Its value in the second.
    pub got: String,
}

/// A recipe that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// No preset and no file has this name.
    #[error("recipe: expected a preset ({}) or a TOML file, got \"{name}\"{}", preset_names(), hint(nearest))]
    UnknownPreset {
        /// The name asked for.
        name: String,
        /// The most similar preset, if one is similar at all.
        nearest: Option<String>,
    },
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The text is not TOML, or a value has the wrong type.
    #[error("{origin}: line {line}: {message}")]
    Syntax {
        /// The file or preset.
        origin: String,
        /// The line, from 1.
        line: usize,
        /// What was expected and what came.
        message: String,
    },
    /// A key that no recipe has.
    #[error("{origin}: unknown key \"{key}\"{}", hint(nearest))]
    UnknownKey {
        /// The file or preset.
        origin: String,
        /// The key.
        key: String,
        /// The most similar key, if one is similar at all.
        nearest: Option<String>,
    },
    /// A value out of range, or one that does not go with another.
    #[error("{field}: expected {expected}, got {got}")]
    Field {
        /// The field at fault.
        field: &'static str,
        /// What it may hold.
        expected: String,
        /// What it held.
        got: String,
    },
}

fn preset_names() -> String {
    PRESETS.map(|preset| preset.name).join(", ")
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!(" (did you mean \"{name}\"?)"))
}
