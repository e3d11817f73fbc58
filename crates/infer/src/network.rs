//! A network by name, or from a TOML description.

use crate::InferError;
use residual_files::read_text;
use residual_zoo::{Config, find, from_toml};
use std::path::Path;

/// Maximum length of a description, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The network of `model`: a TOML file if it ends in `.toml` (see [`residual_zoo::from_toml`]), otherwise a name in
/// the registry.
///
/// # Errors
/// If the name is not known, or the file cannot be read or describes no network.
pub fn network(model: &str) -> Result<Config, InferError> {
    if !is_description(model) {
        return Ok(find(model)?.config);
    }
    let path = Path::new(model);
    from_toml(&read_text(path, MAX_BYTES)?).map_err(|source| InferError::Description { path: path.into(), source })
}

/// Whether a description sets the number of input channels explicitly.
pub(crate) fn says_channels(description: &str) -> Result<bool, InferError> {
    let text = read_text(Path::new(description), MAX_BYTES)?;
    Ok(toml::from_str::<toml::Table>(&text).is_ok_and(|table| table.contains_key("in_chans")))
}

/// Whether `model` is the path of a description, not a name.
pub fn is_description(model: &str) -> bool {
    model.ends_with(".toml")
}
