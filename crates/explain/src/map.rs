//! A map: one value for each pixel of an image or feature map.

/// Values of height × width pixels, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Row by row.
    pub values: Vec<f32>,
}

impl Map {
    /// A map of these values.
    ///
    /// # Panics
    /// If there is not one value for each pixel.
    pub fn new([height, width]: [usize; 2], values: Vec<f32>) -> Self {
        assert_eq!(height * width, values.len(), "a map of {height}x{width}");
        Self { height, width, values }
    }

    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// The smallest and the largest value.
    pub fn range(&self) -> [f32; 2] {
        let min = self.values.iter().copied().fold(f32::INFINITY, f32::min);
        let max = self.values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        [min, max]
    }

    /// The row and column of the largest value, the first of several.
    pub fn peak(&self) -> [usize; 2] {
        let mut best = 0;
        for (index, value) in self.values.iter().enumerate() {
            if *value > self.values[best] {
                best = index;
            }
        }
        [best / self.width, best % self.width]
    }

    /// Negative values become zero.
    pub fn rectified(mut self) -> Self {
        self.values.iter_mut().for_each(|value| *value = value.max(0.0));
        self
    }

    /// Scaled so that the smallest value is 0 and the largest 1, as pytorch-grad-cam does: (x − min) / (max − min + 1e-7).
    pub fn normalised(mut self) -> Self {
        let [min, max] = self.range();
        let scale = 1.0 / (1e-7 + (max - min));
        self.values.iter_mut().for_each(|value| *value = (*value - min) * scale);
        self
    }

    /// Bilinear interpolation with pixel centres at halves and edges repeated: OpenCV's `INTER_LINEAR`, torch's `interpolate`
    /// with `align_corners=False`.
    pub fn resized(&self, [height, width]: [usize; 2]) -> Self {
        if self.size() == [height, width] {
            return self.clone();
        }
        let columns: Vec<Tap> = (0..width).map(|x| Tap::at(x, width, self.width)).collect();
        let mut values = Vec::with_capacity(height * width);
        for y in 0..height {
            let Tap { first, second, share } = Tap::at(y, height, self.height);
            let row = |y: usize| &self.values[y * self.width..][..self.width];
            let (upper, lower) = (row(first), row(second));
            values.extend(columns.iter().map(|column| {
                let between = |row: &[f32]| row[column.first] + (row[column.second] - row[column.first]) * column.share;
                let (upper, lower) = (between(upper), between(lower));
                upper + (lower - upper) * share
            }));
        }
        Self { height, width, values }
    }
}

/// Two neighbouring source pixels, and the share of the second.
#[derive(Clone, Copy)]
struct Tap {
    first: usize,
    second: usize,
    share: f32,
}

impl Tap {
    /// The source of pixel `to` of `size`, in a line of `source` pixels.
    fn at(to: usize, size: usize, source: usize) -> Self {
        let centre = (to as f64 + 0.5) * source as f64 / size as f64 - 0.5;
        let centre = centre.clamp(0.0, (source - 1) as f64);
        let first = centre.floor() as usize;
        Self { first, second: (first + 1).min(source - 1), share: (centre - first as f64) as f32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.nn.functional.interpolate([[0, 1], [2, 4]], size=(3, 4), mode="bilinear", align_corners=False)`.
    #[test]
    fn resizing_is_torchs_bilinear_interpolation() {
        let map = Map::new([2, 2], vec![0.0, 1.0, 2.0, 4.0]).resized([3, 4]);
        let expected = [0.0, 0.25, 0.75, 1.0, 1.0, 1.375, 2.125, 2.5, 2.0, 2.5, 3.5, 4.0];
        assert!(map.values.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-6), "{map:?}");
    }

    #[test]
    fn a_constant_map_is_normalised_to_zero() {
        assert_eq!(Map::new([1, 3], vec![2.0; 3]).normalised().values, [0.0; 3]);
        let map = Map::new([1, 3], vec![-1.0, 0.0, 3.0]);
        assert_eq!((map.peak(), map.range()), ([0, 2], [-1.0, 3.0]));
        assert_eq!(map.clone().rectified().values, [0.0, 0.0, 3.0]);
        assert!((map.normalised().values[1] - 0.25).abs() < 1e-6);
    }
}
