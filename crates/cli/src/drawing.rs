//! Pictures as files, `.svg` or `.png`.

use crate::failure::Failure;
use crate::output::{path_text, print};
use residual::files::atomic_write;
use residual::report::Svg;
use std::path::Path;

/// Pixels of a PNG file per pixel of the picture.
const PNG_SCALE: f32 = 2.0;

/// Refuses a name with another ending, before anything is measured for the picture.
pub(crate) fn check(path: &Path) -> Result<(), Failure> {
    let ending = path.extension().and_then(|ending| ending.to_str());
    match path == Path::new("-") || matches!(ending, Some("svg" | "png")) {
        true => Ok(()),
        false => {
            let path = path_text(path);
            Err(Failure::usage(format!("--svg: expected a name that ends in .svg or .png, got \"{path}\"")))
        }
    }
}

/// Writes a picture to a file of the kind that its name says, or as SVG to stdout (`-`). Returns whether there is a file.
pub(crate) fn write(svg: &Svg, path: &Path) -> Result<bool, Failure> {
    if path == Path::new("-") {
        print(&svg.to_svg())?;
        return Ok(false);
    }
    check(path)?;
    let bytes = match path.extension().is_some_and(|ending| ending == "png") {
        true => svg.to_png(PNG_SCALE)?,
        false => svg.to_svg().into_bytes(),
    };
    atomic_write(path, |file| file.write_all(&bytes))?;
    Ok(true)
}
