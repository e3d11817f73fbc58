//! A network by name, or from a file that describes it.

use crate::InferError;
use residual_files::read_text;
use residual_zoo::{Config, find, from_toml};
use std::path::Path;

/// The longest description that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The network that `model` means: a TOML file where it ends in `.toml` (see [`residual_zoo::from_toml`]), else a name of
/// the registry.
///
/// # Errors
/// If the name is not known, or the file cannot be read or describes no network.
pub fn network(model: &str) -> Result<Config, InferError> {
    if !is_description(model) {
        return Ok(find(model)?.config);
    }
    let path = Path::new(model);
    let text = read_text(path, MAX_BYTES)?;
    from_toml(&text).map_err(|source| InferError::Description { path: path.into(), source })
}

/// Whether `model` is the path of a description, not a name.
pub fn is_description(model: &str) -> bool {
    model.ends_with(".toml")
}
