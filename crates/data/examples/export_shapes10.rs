//! Writes the built-in dataset to a folder of PNG files: `cargo run -p residual-data --example export_shapes10 -- FOLDER`.

use residual_data::{DataError, Source, export};

fn main() -> Result<(), DataError> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "shapes10".into());
    let images = export(&Source::open("shapes10", None)?, folder.as_ref())?;
    println!("{folder}: {images} images");
    Ok(())
}
