//! What a residual image classifier looks at, as numbers: pictures of them are drawn by the `report` crate.
//!
//! - [`Explainer`]: maps of the pixels that speak for a class, by one of the [`Method`]s: class activation maps
//!   ([`class_activation`]), gradients and integrated gradients ([`integrated_gradients`]), occlusion ([`occlusion()`]).
//! - [`faithfulness()`] and [`shuffle_weights`]: whether such a map can be believed.
//! - [`PatchSearch`]: the patches of images that excite a channel most.
//! - [`ActivationRecorder`] and [`gradient_flow`]: activations and gradients of every layer.
//! - [`principal_components`], [`tsne()`] and [`nearest_neighbours`]: sets of feature vectors.
//!
//! Everything works on any model: the engine's evaluation mode is differentiable, so no layer has to be prepared for it. Images
//! are normalised, n × height × width × channels (NHWC).
#![forbid(unsafe_code)]

mod activations;
mod attribution;
mod cam;
mod error;
mod faithfulness;
mod gradient_flow;
mod impute;
mod map;
mod method;
mod neighbours;
mod network;
mod occlusion;
mod patches;
mod principal;
mod randomisation;
mod target;
mod tsne;

pub use activations::{ActivationRecorder, ActivationStatistics};
pub use attribution::{Attribution, channel_max, channel_sum, input_gradients, integrated_gradients, smooth_gradient};
pub use cam::{CamMethod, class_activation, combined};
pub use error::ExplainError;
pub use faithfulness::{Faithfulness, faithfulness};
pub use gradient_flow::{GradientFlow, gradient_flow};
pub use map::Map;
pub use method::{Explainer, Method, MethodOptions};
pub use neighbours::{Neighbour, nearest_neighbours};
pub use network::{Layer, Network, Pass, default_layer};
pub use occlusion::{Occlusion, occlusion};
pub use patches::{Patch, PatchSearch};
pub use principal::{Components, principal_components};
pub use randomisation::{Randomised, shuffle_weights, spearman};
pub use residual_infer::GradientStatistics;
pub use target::Target;
pub use tsne::{MOST_VECTORS, Tsne, TsneOptions, tsne};
