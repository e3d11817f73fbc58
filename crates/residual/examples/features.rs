//! What a network makes of a picture: `cargo run --release --example features -- runs/1-resnet20-shapes10 photo.jpg`

use residual::FeatureExtractor;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(weights), Some(photo)) = (arguments.next(), arguments.next()) else { return Err("WEIGHTS IMAGE".into()) };
    let mut model = FeatureExtractor::new(residual::load(weights)?)?;
    let images = [residual::read_image(photo)?];
    for feature in model.features(&images, &["layer1", "layer3", "pooled"])? {
        let mean = feature.values.iter().sum::<f32>() / feature.values.len() as f32;
        println!("{}: {}, mean {mean:.4}", feature.layer, feature.shape);
    }
    Ok(())
}
