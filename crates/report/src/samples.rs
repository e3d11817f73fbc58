//! Small pictures of dataset samples.

use crate::{Picture, ReportError};
use residual_data::Sample;
use residual_preprocess::{Image, Interpolation, Preprocessing, resize};

/// The longer side of a picture in pixels; larger images are made smaller.
const SIDE: usize = 96;

/// A picture of a sample. `preprocessing` has the mean and standard deviation that undo the normalisation of values.
///
/// # Errors
/// If the sample has no pixels.
pub(crate) fn thumbnail(sample: &Sample, preprocessing: &Preprocessing) -> Result<Picture, ReportError> {
    match sample {
        Sample::Pixels(image) => from_image(&image.upright()),
        Sample::Normalized { height, width, values, .. } => from_values(values, [*height, *width], preprocessing),
    }
}

/// A picture of normalised values: height × width × channels.
///
/// # Errors
/// If there are not as many values as the size has.
pub(crate) fn from_values(
    values: &[f32],
    [height, width]: [usize; 2],
    preprocessing: &Preprocessing,
) -> Result<Picture, ReportError> {
    let channels = values.len() / (height * width).max(1);
    let byte = |(index, &value): (usize, &f32)| {
        let channel = index % channels.max(1);
        let [mean, std] =
            [&preprocessing.mean, &preprocessing.std].map(|list| list.get(channel).copied().unwrap_or(0.5));
        (255.0 * (value * std + mean)).round().clamp(0.0, 255.0) as u8
    };
    let pixels: Vec<u8> = values.iter().enumerate().map(byte).collect();
    let bytes = pixels.len();
    let image =
        Image::new(height, width, channels, pixels).map_err(|_| ReportError::Pixels { width, height, bytes })?;
    from_image(&image)
}

fn from_image(image: &Image) -> Result<Picture, ReportError> {
    // Grey, alpha and colour become RGB; of other numbers of channels the first is shown in grey.
    let rgb: Vec<u8> = match image.with_channels(3) {
        Ok(rgb) => rgb.pixels().to_vec(),
        Err(_) => image.pixels().chunks_exact(image.channels()).flat_map(|pixel| [pixel[0]; 3]).collect(),
    };
    let (height, width) = (image.height(), image.width());
    let longer = height.max(width);
    if longer <= SIDE {
        return Picture::new(width, height, rgb);
    }
    let shrunk = |side: usize| (side * SIDE / longer).max(1);
    let bytes = rgb.len();
    let image = Image::new(height, width, 3, rgb).map_err(|_| ReportError::Pixels { width, height, bytes })?;
    let small = resize(&image, [shrunk(height), shrunk(width)], Interpolation::Bilinear);
    Ok(Picture::new(small.width(), small.height(), small.into_pixels())?.photograph())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalised_values_become_the_pixels_that_they_came_from() {
        let preprocessing = Preprocessing::unscaled([2, 2], &[0.4, 0.5, 0.6], &[0.2, 0.25, 0.3]);
        let pixels: Vec<u8> = (0..12).map(|value| value * 20).collect();
        let values = pixels.iter().enumerate().map(|(index, &value)| {
            (f32::from(value) / 255.0 - preprocessing.mean[index % 3]) / preprocessing.std[index % 3]
        });
        let picture = from_values(&values.collect::<Vec<_>>(), [2, 2], &preprocessing).unwrap();
        assert_eq!(picture.rgb(), pixels);
    }

    #[test]
    fn large_and_grey_images_are_shown_small_and_in_rgb() {
        let image = Sample::Pixels(Image::new(200, 400, 1, vec![77; 200 * 400]).unwrap());
        let picture = thumbnail(&image, &Preprocessing::imagenet()).unwrap();
        assert_eq!((picture.width(), picture.height()), (96, 48));
        assert!(picture.rgb().iter().all(|&value| value == 77));
    }
}
