//! The settings that are one of a few names.

use super::value::{Field, Kind};
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
        /// Adam with decoupled weight decay (torch's `AdamW`).
        AdamW = "adamw",
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
