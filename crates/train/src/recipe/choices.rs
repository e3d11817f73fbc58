//! The settings that are one of a few names.

use super::value::{Field, Kind};
use residual_preprocess::Views;
use serde::Deserialize;

/// An enumeration, and the names of its variants in recipe files and flags.
macro_rules! choices {
    ($($(#[$meta:meta])* $choice:ident { $($(#[$variant_meta:meta])* $variant:ident = $name:literal,)+ })+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
        pub enum $choice {
            $($(#[$variant_meta])* #[serde(rename = $name)] $variant,)+
        }

        impl $choice {
            /// Its name in recipe files and flags.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl Field for $choice {
            const KIND: Kind = Kind::Choice(&[$($name),+]);

            fn value(&self) -> Option<toml::Value> {
                Some(toml::Value::String(self.name().into()))
            }
        }
    )+ };
}

choices! {
    /// The optimiser.
    Opt {
        /// Stochastic gradient descent with momentum (torch's `SGD`).
        #[default]
        Sgd = "sgd",
        /// The same, always without Nesterov's momentum (timm's name for it).
        Momentum = "momentum",
        /// Adam (torch's `Adam`).
        Adam = "adam",
        /// Adam with decoupled weight decay (torch's `AdamW`).
        AdamW = "adamw",
        /// Adam with Nesterov's momentum (torch's `NAdam`).
        NAdam = "nadam",
        /// Adam with the step of each tensor scaled to its norm (timm's `Lamb`).
        Lamb = "lamb",
        /// RMSprop (torch's).
        RmsProp = "rmsprop",
        /// RMSprop as in TensorFlow (timm's `RMSpropTF`).
        RmsPropTf = "rmsproptf",
        /// Steps by the sign of an average of gradients (timm's `Lion`).
        Lion = "lion",
        /// Orthogonalised momentum for weights of convolutions and hidden linear layers (torch's `Muon`), AdamW for the rest.
        Muon = "muon",
    }

    /// The weights of classes in the loss.
    ClassWeights {
        /// All 1, or those of `class_weight_values`.
        #[default]
        None = "none",
        /// In inverse proportion to the images of a class (scikit-learn's "balanced").
        Balanced = "balanced",
        /// In inverse proportion to the effective number of images of a class (Cui et al. 2019), with a mean of 1.
        Effective = "effective",
    }

    /// What `clip_grad` limits.
    ClipMode {
        /// The norm of all gradients together (torch's `clip_grad_norm_`).
        #[default]
        Norm = "norm",
        /// Every value (torch's `clip_grad_value_`).
        Value = "value",
        /// The norm of each unit of all layers but the head, relative to that of its weights (Brock et al. 2021; timm's
        /// `adaptive_clip_grad`).
        Agc = "agc",
    }

    /// How Muon scales the learning rate of a weight with its shape, of outputs × the rest (torch's `adjust_lr_fn`).
    MuonAdjustLr {
        /// √max(1, outputs / rest).
        Original = "original",
        /// 0.2 √max(outputs, rest): the step is about as large as AdamW's.
        #[default]
        MatchRmsAdamW = "match_rms_adamw",
        /// √(outputs / rest).
        SpectralUnclamped = "spectral_unclamped",
    }

    /// The learning-rate schedule after the warm-up.
    Sched {
        /// `lr` throughout.
        #[default]
        Constant = "constant",
        /// `lr × gammaⁿ` after n milestones, which count from the start of training (torch's `MultiStepLR`).
        Multistep = "multistep",
        /// Cosine decay from `lr` to `min_lr` over the steps after the warm-up (torch's `CosineAnnealingLR`).
        Cosine = "cosine",
        /// Linear decay from `lr` to `min_lr` over the steps after the warm-up.
        Linear = "linear",
        /// `lr × gammaⁿ` after n times `decay_epochs` (torch's `StepLR`).
        Step = "step",
        /// Up to `lr` and down to almost zero, both in half a cosine (torch's `OneCycleLR`, without its cycle of the momentum).
        OneCycle = "one-cycle",
        /// Polynomial decay from `lr` to `min_lr` (timm's `PolyLRScheduler`; torch's `PolynomialLR`).
        Poly = "poly",
        /// `lr × gammaⁿ` after n times `patience_epochs` evaluations without improvement (torch's `ReduceLROnPlateau`).
        Plateau = "plateau",
    }

    /// How `lr_base` scales with the batch size.
    LrScale {
        /// In proportion.
        #[default]
        Linear = "linear",
        /// With its square root.
        Sqrt = "sqrt",
    }

    /// The augmentation of training images.
    Augment {
        /// None: the same preprocessing as in evaluation.
        #[default]
        None = "none",
        /// A random crop of the padded image, and a flip (He et al. 2015, section 4.2).
        Crop = "crop",
        /// A random part of the image, resized, and a flip (torchvision's `RandomResizedCrop`).
        ResizedCrop = "resized-crop",
    }

    /// How a student learns from its teachers.
    KdLoss {
        /// The divergence of its softened probabilities from the teachers' (Hinton et al. 2015).
        #[default]
        Kd = "kd",
        /// Decoupled knowledge distillation (Zhao et al. 2022).
        Dkd = "dkd",
        /// The distance of its feature maps from a teacher's (FitNets, Romero et al. 2014).
        FitNet = "fitnet",
        /// The distance of its attention maps from a teacher's (Zagoruyko and Komodakis 2016).
        At = "at",
    }

    /// The metric on the held-out images that the best epoch is chosen by.
    EvalMetric {
        /// Top-1 accuracy; of equal ones the lower loss.
        #[default]
        Top1 = "top1",
        /// Top-5 accuracy; of equal ones the lower loss.
        Top5 = "top5",
        /// The mean loss: the lowest is the best.
        Loss = "loss",
    }

    /// The order of the training images.
    Sampler {
        /// Every image once an epoch, in random order.
        #[default]
        Shuffle = "shuffle",
        /// Every class equally often, with replacement.
        Balanced = "balanced",
        /// Classes as often as the square root of their size, with replacement.
        SquareRoot = "sqrt",
    }

    /// The pixels outside an image.
    CropPaddingMode {
        /// Black.
        #[default]
        Zero = "zero",
        /// The image mirrored at its border.
        Reflect = "reflect",
    }

    /// timm's training crops.
    TrainCropMode {
        /// Random resized crop.
        #[default]
        ResizedCrop = "rrc",
        /// Resized with its aspect ratio kept, but for slight changes, and cropped at the centre.
        KeepRatioCentre = "rkrc",
        /// The same, cropped at random.
        KeepRatioRandom = "rkrr",
    }

    /// The interpolation of training images.
    TrainInterpolation {
        /// Bilinear.
        #[default]
        Bilinear = "bilinear",
        /// Bicubic.
        Bicubic = "bicubic",
        /// One of the two at random, each time.
        Random = "random",
    }

    /// When an image is flipped.
    HflipMode {
        /// At random in each epoch.
        #[default]
        Random = "random",
        /// In every other epoch, from the first or the second one on.
        Alternating = "alternating",
    }

    /// The content of an erased rectangle.
    Remode {
        /// A normally distributed value for each pixel and channel.
        #[default]
        Pixel = "pixel",
        /// The mean.
        Const = "const",
        /// A normally distributed value for each channel.
        Rand = "rand",
    }

    /// Test-time augmentation: the views of an image whose logits are averaged.
    Tta {
        /// The centre crop alone.
        #[default]
        None = "none",
        /// The centre crop and its mirror image.
        Flip = "flip",
        /// The corners and the centre.
        FiveCrop = "five-crop",
        /// These of the image and of its mirror image.
        TenCrop = "ten-crop",
    }

    /// The initialisation of new weights.
    Init {
        /// Kaiming normal, fan-out, as torchvision's ResNet; for networks with layer norms a normal with standard deviation
        /// 0.02, as in its ConvNeXt.
        #[default]
        He = "he",
        /// The defaults of torch's modules.
        Torch = "torch",
    }
}

impl KdLoss {
    /// Whether the student learns feature maps of the teacher.
    pub(crate) fn has_hints(self) -> bool {
        matches!(self, Self::FitNet | Self::At)
    }
}

impl Tta {
    /// The views of an image.
    pub fn views(self) -> Views {
        match self {
            Self::None => Views::Single,
            Self::Flip => Views::Flip,
            Self::FiveCrop => Views::FiveCrop,
            Self::TenCrop => Views::TenCrop,
        }
    }
}
