//! Trains the head, then the last stage too, of a checkpoint on a folder of photos:
//! `cargo run --release --example fine_tune -- start.safetensors photos`

use residual::{FineTune, train::Event};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(weights), Some(photos)) = (arguments.next(), arguments.next()) else { return Err("WEIGHTS DIR".into()) };
    let fine_tune =
        FineTune::new(weights, photos).epochs(10).val_split(0.2).freeze("backbone").unfreeze_at(5, "layer4");
    let tuned = fine_tune.run(|event| {
        if let Event::Epoch(row) = event {
            println!("epoch {}: {:.2} % of the held-out images", row.epoch, row.top1.unwrap_or_default());
        }
    })?;
    println!("the best weights are in {}", tuned.summary.run.display());
    Ok(())
}
