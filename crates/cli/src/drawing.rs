//! Pictures as files, `.svg` or `.png`.

use crate::failure::Failure;
use crate::output::{path_text, print};
use residual::files::atomic_write;
use residual::report::Svg;
use std::path::Path;

/// Pixels of a PNG file per pixel of the picture.
const PNG_SCALE: f32 = 2.0;

/// Writes a picture to a file of the kind that its name says, or as SVG to stdout (`-`). Returns whether there is a file.
pub(crate) fn write(svg: &Svg, path: &Path) -> Result<bool, Failure> {
    if path == Path::new("-") {
        print(&svg.to_svg())?;
        return Ok(false);
    }
    let bytes = match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => svg.to_svg().into_bytes(),
        Some("png") => svg.to_png(PNG_SCALE)?,
        _ => {
            let path = path_text(path);
            return Err(Failure::usage(format!("--svg: expected a name that ends in .svg or .png, got \"{path}\"")));
        }
    };
    atomic_write(path, |file| file.write_all(&bytes))?;
    Ok(true)
}
