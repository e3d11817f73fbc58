//! Writes checkpoints of named networks with random weights, for `bench/onnx_check.py`:
//! `cargo run --release -p residual-onnx --example random_models -- FOLDER NAME…`, without names for all of the registry.

#[path = "../tests/suite/support/mod.rs"]
mod support;

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("expected a folder")?;
    let names: Vec<String> = arguments.collect();
    std::fs::create_dir_all(&folder)?;
    for entry in residual_zoo::entries() {
        if names.is_empty() || names.iter().any(|name| name == entry.name) {
            let model = support::random_model(entry.graph(entry.config.num_classes)?, 7);
            let path = Path::new(&folder).join(entry.name).with_extension("safetensors");
            residual_weights::save(&path, &model, None)?;
            println!("{}", path.display());
        }
    }
    Ok(())
}
