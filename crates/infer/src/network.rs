//! A network by name, or from a file that describes it.

use crate::InferError;
use residual_zoo::{Config, find, from_toml};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// More bytes are not read: a description is refused when it is longer than a part of this.
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
    let mut text = String::new();
    let file = File::open(path).map_err(InferError::io(path))?;
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(InferError::io(path))?;
    from_toml(&text).map_err(|source| InferError::Description { path: path.into(), source })
}

/// Whether `model` is the path of a description, not a name.
pub fn is_description(model: &str) -> bool {
    model.ends_with(".toml")
}
