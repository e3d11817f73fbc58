//! Models as files: safetensors and torch checkpoints.
//!
//! - [`save`] and [`load`]: the self-describing checkpoint, a safetensors file with torch's keys whose metadata hold
//!   graph, preprocessing, labels and recipe.
//! - [`save_sparse`]: the same without the zeros of pruned weights.
//! - [`open`] and [`load_into`]: any weights file, recognised by its content, with the names of other code mapped to
//!   the graph's. Torch's pickles are read as data; nothing in them is ever called.
//! - [`save_tensors`] and [`load_tensors`]: named tensors with string metadata, such as a trainer's state.
//!
//! Every parser takes foreign bytes ([`parse_checkpoint`], [`parse_state_dict`], [`parse_safetensors`],
//! [`parse_torch`]), never panics, and allocates no more than a stated bound before it has checked them.
#![forbid(unsafe_code)]

mod checkpoint;
mod error;
mod four_bits;
mod names;
mod renames;
mod sparse;
mod tensors_file;
mod torch;
mod view;

pub use checkpoint::{
    Checkpoint, StateDict, Weights, load, load_into, open, parse_checkpoint, parse_state_dict, save, save_sparse,
    weights_file,
};
pub use error::{Cause, FormatError, WeightsError};
pub use names::resolved_names;
pub use residual_files::{Metadata, save_tensors};
pub use tensors_file::{load_tensors, parse_safetensors};
pub use torch::parse_torch;
pub use view::TensorView;
