//! Trains the head, then the last stage too, of a checkpoint on a folder of photos:
//! `cargo run --release --example fine_tune -- start.safetensors photos`

use residual::engine::Options;
use residual::train::{Event, Job, Layer, Outcome, Recipe, train};
use std::path::Path;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(weights), Some(photos)) = (arguments.next(), arguments.next()) else { return Err("WEIGHTS DIR".into()) };
    let own = format!(
        "weights = {weights:?}\ndata = {photos:?}\nepochs = 10\nval_split = 0.2\n\
         freeze = \"backbone\"\nfreeze_bn = true\nunfreeze_at = [\"5:layer4\"]\n"
    );
    let recipe = Recipe::resolve(&[Layer::preset("folder-quick")?, Layer::parse("fine_tune", &own)?])?.recipe;
    let job = Job::prepare(recipe)?;
    let outcome = train(&job, Path::new("runs"), &Options::default(), &Arc::default(), &mut |event| {
        if let Event::Epoch(row) = event {
            println!("epoch {}: {:.2} % of the held-out images", row.epoch, row.top1);
        }
    })?;
    if let Outcome::Finished(summary) = outcome {
        println!("the best weights are in {}", summary.run.display());
    }
    Ok(())
}
