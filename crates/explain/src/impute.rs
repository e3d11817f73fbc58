//! Noisy linear imputation: removed pixels become a weighted mean of their neighbours, known and imputed ones alike.

use residual_tensor::Stream;

/// The neighbours' weights of Rong et al. (2022): 1/6 for the four nearest, 1/12 for the diagonal ones.
const NEIGHBOURS: [(isize, isize, f64); 8] = [
    (1, 1, 1.0 / 12.0),
    (0, 1, 1.0 / 6.0),
    (-1, 1, 1.0 / 12.0),
    (1, -1, 1.0 / 12.0),
    (0, -1, 1.0 / 6.0),
    (-1, -1, 1.0 / 12.0),
    (1, 0, 1.0 / 6.0),
    (-1, 0, 1.0 / 6.0),
];

/// The residual at which the linear system counts as solved, relative to its right-hand side.
const SOLVED: f64 = 1e-6;

/// The image with the pixels that are not `known` imputed, plus normal noise with this deviation. Where nothing is known, zeros.
pub(crate) fn impute(
    image: &[f32],
    known: &[bool],
    size: [usize; 2],
    channels: usize,
    noise: f32,
    seed: u64,
) -> Vec<f32> {
    let missing: Vec<usize> = (0..known.len()).filter(|&pixel| !known[pixel]).collect();
    let mut imputed = image.to_vec();
    let system = System::new(&missing, known, size);
    let mut stream = Stream::new(seed, &[]);
    for channel in 0..channels {
        let solution = system.solve(|pixel| f64::from(image[pixel * channels + channel]));
        for (&pixel, value) in missing.iter().zip(solution) {
            imputed[pixel * channels + channel] = value as f32 + noise * stream.normal();
        }
    }
    imputed
}

/// For each missing pixel, (sum of its neighbours' weights) · itself − weighted missing neighbours = weighted known neighbours:
/// symmetric and positive definite where at least one pixel of each region has a known neighbour.
struct System {
    diagonal: Vec<f64>,
    /// For each missing pixel, its missing neighbours by their place in the list, and its known ones by their pixel.
    missing: Vec<Vec<(usize, f64)>>,
    known: Vec<Vec<(usize, f64)>>,
}

impl System {
    fn new(missing: &[usize], known: &[bool], [height, width]: [usize; 2]) -> Self {
        let mut places = vec![usize::MAX; known.len()];
        missing.iter().enumerate().for_each(|(place, &pixel)| places[pixel] = place);
        let mut system = Self { diagonal: Vec::new(), missing: Vec::new(), known: Vec::new() };
        for &pixel in missing {
            let (mut unknowns, mut values, mut total) = (Vec::new(), Vec::new(), 0.0);
            for (dy, dx, weight) in NEIGHBOURS {
                let y = (pixel / width).checked_add_signed(dy).filter(|&y| y < height);
                let x = (pixel % width).checked_add_signed(dx).filter(|&x| x < width);
                let (Some(y), Some(x)) = (y, x) else { continue };
                let neighbour = y * width + x;
                total += weight;
                match known[neighbour] {
                    true => values.push((neighbour, weight)),
                    false => unknowns.push((places[neighbour], weight)),
                }
            }
            system.diagonal.push(total);
            system.missing.push(unknowns);
            system.known.push(values);
        }
        system
    }

    /// The values of the missing pixels, given those of the known ones: conjugate gradients.
    fn solve(&self, value: impl Fn(usize) -> f64) -> Vec<f64> {
        let side = |known: &Vec<(usize, f64)>| known.iter().map(|&(pixel, weight)| weight * value(pixel)).sum();
        let mut residual: Vec<f64> = self.known.iter().map(side).collect();
        let mut solution = vec![0.0; residual.len()];
        let mut direction = residual.clone();
        let start = dot(&residual, &residual);
        let mut squared = start;
        for _ in 0..4 * residual.len() {
            if squared <= SOLVED * SOLVED * start {
                break;
            }
            let image = self.times(&direction);
            let step = squared / dot(&direction, &image);
            solution.iter_mut().zip(&direction).for_each(|(value, direction)| *value += step * direction);
            residual.iter_mut().zip(&image).for_each(|(value, image)| *value -= step * image);
            let next = dot(&residual, &residual);
            let keep = next / squared;
            direction.iter_mut().zip(&residual).for_each(|(direction, value)| *direction = value + keep * *direction);
            squared = next;
        }
        solution
    }

    fn times(&self, vector: &[f64]) -> Vec<f64> {
        let row = |(index, neighbours): (usize, &Vec<(usize, f64)>)| {
            let rest: f64 = neighbours.iter().map(|&(place, weight)| weight * vector[place]).sum();
            self.diagonal[index] * vector[index] - rest
        };
        self.missing.iter().enumerate().map(row).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Harmonic extension: a linear ramp is what its neighbours' means are, so it is imputed exactly away from the edges.
    #[test]
    fn a_ramp_is_imputed_exactly_and_known_pixels_stay() {
        let size = [9, 8];
        let image: Vec<f32> = (0..72).map(|pixel| (pixel / 8) as f32 + 2.0 * (pixel % 8) as f32).collect();
        let known: Vec<bool> = (0..72).map(|p| p / 8 < 2 || p / 8 > 5 || p % 8 < 2 || p % 8 > 5).collect();
        let mut holed = image.clone();
        holed.iter_mut().zip(&known).filter(|(_, known)| !**known).for_each(|(value, _)| *value = -100.0);
        let imputed = impute(&holed, &known, size, 1, 0.0, 0);
        assert!(imputed.iter().zip(&image).all(|(got, expected)| (got - expected).abs() < 1e-3), "{imputed:?}");
        let nothing = impute(&image, &[false; 72], size, 1, 0.0, 0);
        assert!(nothing.iter().all(|value| *value == 0.0));
    }

    #[test]
    fn noise_is_on_imputed_pixels_only_and_reproducible() {
        let known: Vec<bool> = (0..16).map(|pixel| pixel != 5).collect();
        let noisy = |seed| impute(&[1.0; 32], &known, [4, 4], 2, 0.1, seed);
        let a = noisy(1);
        assert_eq!(a, noisy(1));
        assert_ne!(a, noisy(2));
        assert_eq!(a.iter().filter(|value| **value != 1.0).count(), 2);
    }
}
