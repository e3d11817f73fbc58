//! Losses of a student's feature maps against a teacher's (NHWC).

use crate::extents::is_batch;

/// The least norm of an attention map: that of torch's `normalize`.
const LEAST_NORM: f64 = 1e-12;

/// `weight` times the mean of (`student` − `teacher`)² over all elements: torch's `mse_loss`, the hints of FitNets (Romero et
/// al., arXiv:1412.6550). `gradient` becomes its gradient with respect to `student`.
///
/// # Panics
/// If the slices differ in length.
pub fn mean_squared_error(student: &[f32], teacher: &[f32], weight: f64, gradient: &mut [f32]) -> f64 {
    assert_eq!(student.len(), teacher.len(), "teacher: expected as many values as the student's");
    assert_eq!(student.len(), gradient.len(), "gradient: expected as many values as the student's");
    let scale = weight / student.len() as f64;
    let mut total = 0.0;
    for ((gradient, &student), &teacher) in gradient.iter_mut().zip(student).zip(teacher) {
        let difference = f64::from(student) - f64::from(teacher);
        total += difference * difference;
        *gradient = (2.0 * scale * difference) as f32;
    }
    scale * total
}

/// `weight` times the distance of attention maps (Zagoruyko and Komodakis, arXiv:1612.03928): an image's map is the mean over
/// channels of the squares of each pixel, divided by the map's L2 norm, and the distance is the mean over images and pixels of
/// the squared differences, as in the authors' code. The feature maps have the same pixels and may have other channels.
/// `gradient` becomes the gradient with respect to `student`, and `maps` is workspace.
///
/// # Panics
/// If the feature maps are not of `images` images of `pixels` pixels, `gradient` is not as long as `student`, or `maps` is not
/// 2 × `pixels` long.
pub fn attention_transfer(
    student: &[f32],
    teacher: &[f32],
    [images, pixels]: [usize; 2],
    weight: f64,
    gradient: &mut [f32],
    maps: &mut [f64],
) -> f64 {
    let channels = |x: &[f32]| x.len() / (images * pixels).max(1);
    let (student_channels, teacher_channels) = (channels(student), channels(teacher));
    for (what, len, channels) in
        [("student", student.len(), student_channels), ("teacher", teacher.len(), teacher_channels)]
    {
        let fits = channels > 0 && is_batch(len, images, [pixels, 1], channels);
        assert!(fits, "{what}: expected feature maps of {images} images of {pixels} pixels, got {len} numbers");
    }
    assert_eq!(student.len(), gradient.len(), "gradient: expected as many values as the student's");
    assert_eq!(maps.len(), 2 * pixels, "maps: expected two for each pixel");
    let (map, target) = maps.split_at_mut(pixels);
    let scale = weight / (images * pixels) as f64;
    let mut total = 0.0;
    for image in 0..images {
        let of = |channels: usize| image * pixels * channels..(image + 1) * pixels * channels;
        let x = &student[of(student_channels)];
        let norm = attention(x, student_channels, map);
        attention(&teacher[of(teacher_channels)], teacher_channels, target);
        // From here on `target` is the gradient with respect to the normalised map.
        for (target, &map) in target.iter_mut().zip(&*map) {
            let difference = map - *target;
            total += difference * difference;
            *target = 2.0 * scale * difference;
        }
        // The norm of a map that is as good as zero is a constant.
        let along: f64 = map.iter().zip(&*target).map(|(map, slope)| map * slope).sum();
        let along = if norm > LEAST_NORM { along } else { 0.0 };
        let rows =
            gradient[of(student_channels)].chunks_exact_mut(student_channels).zip(x.chunks_exact(student_channels));
        for ((gradient, x), (&map, &slope)) in rows.zip(map.iter().zip(&*target)) {
            let factor = 2.0 * (slope - along * map) / (norm.max(LEAST_NORM) * student_channels as f64);
            gradient.iter_mut().zip(x).for_each(|(gradient, &x)| *gradient = (factor * f64::from(x)) as f32);
        }
    }
    scale * total
}

/// Writes the normalised attention map of one image's feature map and returns the norm that it was divided by, or a lower one.
fn attention(x: &[f32], channels: usize, map: &mut [f64]) -> f64 {
    for (map, pixel) in map.iter_mut().zip(x.chunks_exact(channels)) {
        *map = pixel.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / channels as f64;
    }
    let norm = map.iter().map(|value| value * value).sum::<f64>().sqrt();
    map.iter_mut().for_each(|value| *value /= norm.max(LEAST_NORM));
    norm
}
