//! Names what is in a picture: `cargo run --release --example classify -- runs/1-resnet20-shapes10 photo.jpg`

use residual::Classifier;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(weights), Some(photo)) = (arguments.next(), arguments.next()) else { return Err("WEIGHTS IMAGE".into()) };
    let mut classifier = Classifier::new(residual::load(weights)?)?;
    for prediction in classifier.classify(&residual::read_image(photo)?)?.top(5) {
        println!("{:5.1} %  {}", 100.0 * prediction.probability, prediction.label);
    }
    Ok(())
}
