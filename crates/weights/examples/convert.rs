//! Writes the weights of any file under torchvision's keys: `convert IN NETWORK OUT.safetensors`.

use residual_preprocess::Preprocessing;
use residual_weights::{Weights, open, save};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, network, out] = arguments.as_slice() else { return Err("expected IN NETWORK OUT".into()) };
    let Weights::StateDict(state) = open(Path::new(file))? else { return Err("expected a state dict".into()) };
    let classes = state.outputs(&residual_zoo::build(network, 1000)?).unwrap_or(1000);
    let (model, _) =
        state.into_model(&residual_zoo::build(network, classes)?, Preprocessing::imagenet(), Vec::new())?;
    save(Path::new(out), &model, None)?;
    Ok(())
}
