//! The files that are written: pictures and arrays.

use crate::args::{Explain, Subject};
use crate::failure::Failure;
use crate::output::path_text;
use residual::Image;
use residual::files::{atomic_write, save_npy};
use residual::report::{Picture, Svg};
use std::path::Path;

/// Pixels of a PNG file for each of the picture's.
const SCALE: f32 = 2.0;

/// The kind of a file, by its ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Png,
    Svg,
    Npy,
}

impl Kind {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "png" => Some(Self::Png),
            "svg" => Some(Self::Svg),
            "npy" => Some(Self::Npy),
            _ => None,
        }
    }
}

/// Refuses a missing output, or one that the subject cannot be written to.
pub(super) fn check(arguments: &Explain, subject: Subject) -> Result<(), Failure> {
    let is_table =
        matches!(subject, Subject::Gradients | Subject::Activations | Subject::Predictions | Subject::Neighbours);
    let Some(path) = &arguments.output else {
        return match is_table || arguments.format.json {
            true => Ok(()),
            false => Err(Failure::usage("--output is required for pictures (--json prints numbers without it)")),
        };
    };
    let has_array = matches!(subject, Subject::Maps | Subject::FeatureMaps | Subject::Filters | Subject::Embedding(_));
    let has_picture = subject != Subject::Activations;
    let fits = |kind: Kind| if kind == Kind::Npy { has_array } else { has_picture };
    match (Kind::of(path), has_array, has_picture) {
        (Some(kind), ..) if fits(kind) => Ok(()),
        (_, true, _) => {
            Err(Failure::usage(format!("{}: expected a name that ends in .png, .svg or .npy", path_text(path))))
        }
        (_, _, true) => Err(Failure::usage(format!("{}: expected a name that ends in .png or .svg", path_text(path)))),
        _ => Err(Failure::usage("--output: expected none, as activations are a table (--json prints them as numbers)")),
    }
}

/// Writes the picture or the array, by the ending of the file's name.
pub(super) fn write(
    path: &Path,
    picture: impl FnOnce() -> Result<Svg, Failure>,
    array: impl FnOnce() -> Result<(Vec<usize>, Vec<f32>), Failure>,
) -> Result<(), Failure> {
    match Kind::of(path) {
        Some(Kind::Npy) => {
            let (shape, values) = array()?;
            Ok(save_npy(path, &shape, &values)?)
        }
        Some(Kind::Png) => {
            let png = picture()?.to_png(SCALE)?;
            Ok(atomic_write(path, |file| file.write_all(&png))?)
        }
        _ => {
            let svg = picture()?.to_svg();
            Ok(atomic_write(path, |file| file.write_all(svg.as_bytes()))?)
        }
    }
}

/// [`write`] for subjects without an array.
pub(super) fn write_picture(path: &Path, picture: impl FnOnce() -> Result<Svg, Failure>) -> Result<(), Failure> {
    write(path, picture, || Err(Failure::usage(format!("{}: expected a picture", path_text(path)))))
}

/// An image as a picture in colour.
pub(super) fn picture(image: &Image) -> Result<Picture, Failure> {
    let colour = image.with_channels(3)?;
    Ok(Picture::new(colour.width(), colour.height(), colour.pixels().to_vec())?)
}

/// The name without its folders, for captions.
pub(super) fn short_name(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}
