//! Class activation maps: a feature map's channels, summed with weights from the gradient of the score.
//!
//! The definitions are those of pytorch-grad-cam 1.5.7. A is the layer's value, G the gradient of the score with respect to it;
//! sums over channels are written Σ, means and sums over pixels are said.

use crate::Map;
use crate::principal::principal_components;
use residual_graph::Shape;

/// How a class activation map is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CamMethod {
    /// Σ mean(G)·A: Selvaraju et al., "Grad-CAM" (2017).
    GradCam,
    /// Σ w·A, where w weights positive gradients by their second and third powers: Chattopadhay et al., "Grad-CAM++" (2018).
    GradCamPlusPlus,
    /// Σ max(G, 0)·A, pixel by pixel: Jiang et al., "LayerCAM" (2021).
    LayerCam,
    /// Σ G·A, pixel by pixel: Draelos and Carin, "HiResCAM" (2020).
    HiResCam,
    /// The projection of A onto the first principal component of its pixels, independent of the class: Muhammad and Yeasin,
    /// "Eigen-CAM" (2020).
    EigenCam,
}

/// The map of a layer with this `value` and `gradient` for one image (height × width × channels), before it is rectified and
/// scaled. [`CamMethod::EigenCam`] reads no gradient; its sign is the one that correlates with the sum of the channels.
///
/// # Panics
/// If a slice does not have the layer's shape.
pub fn class_activation(method: CamMethod, value: &[f32], gradient: &[f32], shape: Shape) -> Map {
    let Shape { height, width, channels } = shape;
    assert_eq!(value.len(), shape.len(), "a layer's value");
    if method == CamMethod::EigenCam {
        return eigen(value, shape);
    }
    assert_eq!(gradient.len(), shape.len(), "a layer's gradient");
    let pixels = || value.chunks_exact(channels).zip(gradient.chunks_exact(channels));
    let weighted = |weights: &[f64]| {
        let sum = |value: &[f32]| value.iter().zip(weights).map(|(&a, w)| f64::from(a) * w).sum::<f64>() as f32;
        value.chunks_exact(channels).map(sum).collect()
    };
    let pixelwise = |weight: fn(f32) -> f32| {
        let product = |(&a, &g): (&f32, &f32)| f64::from(a) * f64::from(weight(g));
        pixels().map(|(value, gradient)| value.iter().zip(gradient).map(product).sum::<f64>() as f32).collect()
    };
    let values = match method {
        CamMethod::GradCam => {
            let count = (height * width) as f64;
            weighted(&sums(gradient, channels).iter().map(|sum| sum / count).collect::<Vec<_>>())
        }
        CamMethod::GradCamPlusPlus => weighted(&plus_plus(value, gradient, channels)),
        CamMethod::LayerCam => pixelwise(|gradient| gradient.max(0.0)),
        CamMethod::HiResCam => pixelwise(|gradient| gradient),
        CamMethod::EigenCam => unreachable!("returned above"),
    };
    Map::new([height, width], values)
}

/// The map that is shown for the maps of one or more layers: each is rectified, scaled to 0..1 and resized to the image; their mean
/// is scaled again.
///
/// # Panics
/// If there are no layers.
pub fn combined(layers: Vec<Map>, size: [usize; 2]) -> Map {
    let count = layers.len();
    assert!(count > 0, "at least one layer");
    let mut scaled = layers.into_iter().map(|map| map.rectified().normalised().resized(size));
    let mut mean = scaled.next().expect("counted above");
    for map in scaled {
        mean.values.iter_mut().zip(&map.values).for_each(|(sum, value)| *sum += value);
    }
    mean.values.iter_mut().for_each(|value| *value /= count as f32);
    mean.normalised()
}

/// The sum over the pixels, by channel.
fn sums(values: &[f32], channels: usize) -> Vec<f64> {
    let mut sums = vec![0.0; channels];
    for pixel in values.chunks_exact(channels) {
        sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sums
}

/// Grad-CAM++'s weights by channel: equations 7 and 19 of the paper, as pytorch-grad-cam computes them.
fn plus_plus(value: &[f32], gradient: &[f32], channels: usize) -> Vec<f64> {
    let totals = sums(value, channels);
    let mut weights = vec![0.0; channels];
    for pixel in gradient.chunks_exact(channels) {
        for ((weight, total), &gradient) in weights.iter_mut().zip(&totals).zip(pixel) {
            let g = f64::from(gradient);
            if g > 0.0 {
                *weight += g * g * g / (2.0 * g * g + total * g * g * g + 1e-6);
            }
        }
    }
    weights
}

fn eigen(value: &[f32], shape: Shape) -> Map {
    let Shape { height, width, channels } = shape;
    let mut projection = principal_components(value, channels, 1, 0).scores;
    let total = |pixel: &[f32]| pixel.iter().map(|&value| f64::from(value)).sum::<f64>();
    let correlation: f64 = value.chunks_exact(channels).map(total).zip(&projection).map(|(a, b)| a * b).sum();
    if correlation < 0.0 {
        projection.iter_mut().for_each(|value| *value = -*value);
    }
    Map::new([height, width], projection.into_iter().map(|value| value as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use residual_tensor::Stream;

    /// The identities of the papers: where the gradient is the same at every pixel, Grad-CAM and HiResCAM agree, and
    /// with positive gradients LayerCAM does too.
    #[test]
    fn maps_of_a_uniform_gradient_agree() {
        let shape = Shape { height: 3, width: 4, channels: 5 };
        let mut stream = Stream::new(1, &[]);
        let value: Vec<f32> = (0..shape.len()).map(|_| stream.uniform()).collect();
        let gradient: Vec<f32> = (0..shape.len()).map(|index| 0.1 + (index % 5) as f32).collect();
        let map = |method| class_activation(method, &value, &gradient, shape);
        let expected = map(CamMethod::GradCam);
        for method in [CamMethod::HiResCam, CamMethod::LayerCam] {
            let got = map(method);
            let pairs = got.values.iter().zip(&expected.values);
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-4), "{method:?}");
        }
    }

    /// A value whose pixels differ along one direction only has that direction as its component.
    #[test]
    fn the_eigen_map_is_the_direction_of_largest_variance() {
        let shape = Shape { height: 2, width: 3, channels: 4 };
        let along = [0.0, 1.0, 2.0, 3.0, 4.0, 8.0];
        let value: Vec<f32> = along.iter().flat_map(|t| [1.0 + t, 2.0 * t, 5.0, 0.5 * t]).collect();
        let map = class_activation(CamMethod::EigenCam, &value, &[], shape);
        let length = (1.0f32 + 4.0 + 0.25).sqrt();
        let mean = along.iter().sum::<f32>() / 6.0;
        for (got, t) in map.values.iter().zip(along) {
            assert!((got - (t - mean) * length).abs() < 1e-4, "{map:?}");
        }
    }
}
