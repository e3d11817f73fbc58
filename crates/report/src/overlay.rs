//! Maps as pictures: by themselves, and over the image that they explain.

use crate::{Picture, ReportError, viridis};
use residual_explain::Map;

/// The share of the map's colour where it is strongest.
const OPACITY: f32 = 0.65;
/// The colours of what speaks for and against a class.
const FOR: [u8; 3] = [214, 39, 40];
const AGAINST: [u8; 3] = [31, 87, 214];

/// A map in the colours of [`viridis`], from its smallest value to its largest.
///
/// # Errors
/// If the map is empty.
pub fn heat(map: &Map) -> Result<Picture, ReportError> {
    let [min, max] = map.range();
    let scale = if max > min { 1.0 / (max - min) } else { 0.0 };
    let rgb = map.values.iter().flat_map(|value| viridis((value - min) * scale)).collect();
    Picture::new(map.width, map.height, rgb)
}

/// A map over its image, which shows in grey. An unsigned map has the colours of [`viridis`]; in a signed one red speaks for the
/// class and blue against it, and zero leaves the image as it is. The map is resized to the image.
///
/// # Errors
/// If the map is empty.
pub fn overlay(image: &Picture, map: &Map, is_signed: bool) -> Result<Picture, ReportError> {
    let map = map.resized([image.height(), image.width()]);
    let [min, max] = map.range();
    let largest = max.abs().max(min.abs()).max(f32::MIN_POSITIVE);
    let range = (max - min).max(f32::MIN_POSITIVE);
    let mixed = |(pixel, &value): (&[u8], &f32)| {
        let grey = 0.299 * f32::from(pixel[0]) + 0.587 * f32::from(pixel[1]) + 0.114 * f32::from(pixel[2]);
        let (colour, share) = match is_signed {
            true => (if value < 0.0 { AGAINST } else { FOR }, (value.abs() / largest).sqrt() * (OPACITY + 0.15)),
            false => (viridis((value - min) / range), OPACITY),
        };
        colour.map(|channel| (grey + share * (f32::from(channel) - grey)).round() as u8)
    };
    let rgb = image.rgb().chunks_exact(3).zip(&map.values).flat_map(mixed).collect();
    Picture::new(image.width(), image.height(), rgb)
}

/// The filters of a convolution: `shape` is that of its weight, out × in × height × width. Filters of three inputs are colours,
/// each scaled to its own range; others are the mean over their inputs in the colours of [`viridis`].
///
/// # Errors
/// If a filter has no weights.
///
/// # Panics
/// If the weights do not have the shape.
pub fn filter_pictures(weights: &[f32], shape: [usize; 4]) -> Result<Vec<Picture>, ReportError> {
    let [filters, inputs, height, width] = shape;
    let pixels = height * width;
    assert_eq!(weights.len(), filters * inputs * pixels, "weights of the shape");
    if inputs * pixels == 0 {
        return Err(ReportError::Pixels { width, height, bytes: 0 });
    }
    let picture = |filter: &[f32]| {
        if inputs == 3 {
            let all = Map::new([1, filter.len()], filter.to_vec());
            let [min, max] = all.range();
            let scale = if max > min { 255.0 / (max - min) } else { 0.0 };
            let channels = (0..pixels).flat_map(|pixel| (0..3).map(move |channel| channel * pixels + pixel));
            let rgb = channels.map(|at| ((filter[at] - min) * scale).round() as u8).collect();
            return Picture::new(width, height, rgb);
        }
        let mean = |pixel: usize| filter.iter().skip(pixel).step_by(pixels).sum::<f32>() / inputs as f32;
        heat(&Map::new([height, width], (0..pixels).map(mean).collect()))
    };
    weights.chunks_exact(inputs * pixels).map(picture).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_coloured_by_its_map() {
        let image = Picture::new(2, 1, vec![200; 6]).unwrap();
        let map = Map::new([1, 2], vec![0.0, 5.0]);
        let unsigned = overlay(&image, &map, false).unwrap();
        let mix = |grey: f32, colour: [u8; 3]| colour.map(|c| (grey + OPACITY * (f32::from(c) - grey)).round() as u8);
        assert_eq!(unsigned.rgb()[..3], mix(200.0, viridis(0.0)));
        assert_eq!(unsigned.rgb()[3..], mix(200.0, viridis(1.0)));
        let signed = overlay(&image, &Map::new([1, 2], vec![0.0, -5.0]), true).unwrap();
        assert_eq!(signed.rgb()[..3], [200; 3], "zero leaves the image as it is");
        assert!(signed.rgb()[5] > signed.rgb()[3], "what speaks against is blue");
    }

    #[test]
    fn filters_of_three_inputs_are_colours_and_others_are_means() {
        let weights: Vec<f32> = vec![0.0, 0.0, 1.0, 0.5, 0.0, 1.0];
        let colours = filter_pictures(&weights, [1, 3, 1, 2]).unwrap();
        assert_eq!(colours[0].rgb(), [0, 255, 0, 0, 128, 255]);
        let means = filter_pictures(&[0.0, 1.0, 0.0, 3.0], [1, 2, 1, 2]).unwrap();
        assert_eq!(means[0].rgb(), [viridis(0.0), viridis(1.0)].concat());
        assert_eq!(heat(&Map::new([1, 2], vec![3.0; 2])).unwrap().rgb(), [viridis(0.0); 2].concat());
        assert!(filter_pictures(&[], [0, 3, 0, 2]).is_err());
    }
}
