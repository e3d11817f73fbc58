//! Principal component analysis: the directions of largest variance of a set of vectors.

use residual_tensor::Stream;

/// The first principal components of some vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Components {
    /// The number of components: the given number, or that of the vectors' dimensions if it is smaller.
    pub count: usize,
    /// The coordinates of each vector along the components, vectors × count, without the mean.
    pub scores: Vec<f64>,
    /// The variance along each component, in descending order.
    pub variances: Vec<f64>,
    /// The sum of the variances of all coordinates.
    pub total_variance: f64,
}

/// Additional directions, which make the wanted ones converge faster.
const OVERSAMPLING: usize = 8;
/// Steps of subspace iteration at most.
const STEPS: usize = 300;
/// The relative change of a variance at which it counts as converged.
const CONVERGED: f64 = 1e-12;

/// The first `count` principal components of `vectors` (rows of `dimensions` values), by subspace iteration in double precision
/// from directions that `seed` draws. The sign of a component is arbitrary; its largest score in magnitude is positive.
///
/// # Panics
/// If `vectors` is not a whole number of rows.
pub fn principal_components(vectors: &[f32], dimensions: usize, count: usize, seed: u64) -> Components {
    assert!(vectors.len().is_multiple_of(dimensions.max(1)), "rows of {dimensions}");
    let rows = vectors.len() / dimensions.max(1);
    let mut mean = vec![0.0; dimensions];
    for row in vectors.chunks_exact(dimensions.max(1)) {
        mean.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value) / rows as f64);
    }
    let centred: Vec<f64> = vectors
        .chunks_exact(dimensions.max(1))
        .flat_map(|row| row.iter().zip(&mean).map(|(&value, mean)| f64::from(value) - mean))
        .collect();
    let data = Matrix { rows, columns: dimensions, values: centred };
    let total_variance =
        data.values.iter().map(|value| value * value).sum::<f64>() / rows.max(2).saturating_sub(1) as f64;
    let most = rows.min(dimensions);
    let (count, width) = (count.min(most), (count + OVERSAMPLING).min(most));
    let mut stream = Stream::new(seed, &[]);
    let drawn = (0..dimensions * width).map(|_| f64::from(stream.normal())).collect();
    let mut basis = Matrix { rows: dimensions, columns: width, values: drawn };
    basis.orthonormalise();
    let mut variances = vec![f64::INFINITY; width];
    let mut scores = Matrix { rows, columns: 0, values: Vec::new() };
    for _ in 0..STEPS {
        // Rayleigh–Ritz: the best directions inside the subspace.
        let images = data.times(&basis);
        let (values, rotation) = symmetric_eigen(images.gram());
        scores = images.times(&rotation);
        let change = |(old, new): (&f64, &f64)| (old - new).abs() > CONVERGED * values[0].abs();
        let moves = variances.iter().zip(&values).take(count).any(change);
        variances = values;
        if !moves {
            break;
        }
        basis = data.transposed_times(&scores);
        basis.orthonormalise();
    }
    let mut kept = Vec::with_capacity(rows * count);
    for row in scores.values.chunks_exact(width.max(1)) {
        kept.extend_from_slice(&row[..count]);
    }
    for component in 0..count {
        let along = || kept.iter().skip(component).step_by(count);
        let largest = along().copied().fold(0.0f64, |best, value| if value.abs() > best.abs() { value } else { best });
        if largest < 0.0 {
            kept.iter_mut().skip(component).step_by(count).for_each(|value| *value = -*value);
        }
    }
    let scale = 1.0 / rows.max(2).saturating_sub(1) as f64;
    let variances = variances.into_iter().take(count).map(|value| value.max(0.0) * scale).collect();
    Components { count, scores: kept, variances, total_variance }
}

/// Row-major.
struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

impl Matrix {
    fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.columns..][..self.columns]
    }

    fn times(&self, other: &Self) -> Self {
        let mut values = vec![0.0; self.rows * other.columns];
        for (index, to) in values.chunks_exact_mut(other.columns.max(1)).enumerate() {
            for (factor, row) in self.row(index).iter().zip(other.values.chunks_exact(other.columns.max(1))) {
                to.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
            }
        }
        Self { rows: self.rows, columns: other.columns, values }
    }

    /// selfᵀ · other.
    fn transposed_times(&self, other: &Self) -> Self {
        let mut values = vec![0.0; self.columns * other.columns];
        for index in 0..self.rows {
            let row = other.row(index);
            for (factor, to) in self.row(index).iter().zip(values.chunks_exact_mut(other.columns.max(1))) {
                to.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
            }
        }
        Self { rows: self.columns, columns: other.columns, values }
    }

    /// selfᵀ · self.
    fn gram(&self) -> Self {
        self.transposed_times(self)
    }

    /// Makes the columns orthonormal (modified Gram–Schmidt, twice for accuracy). A column that depends on earlier ones becomes
    /// zero.
    fn orthonormalise(&mut self) {
        let mut columns: Vec<Vec<f64>> =
            (0..self.columns).map(|column| (0..self.rows).map(|row| self.row(row)[column]).collect()).collect();
        for index in 0..columns.len() {
            let (earlier, rest) = columns.split_at_mut(index);
            let column = &mut rest[0];
            let length = dot(column, column).sqrt();
            for _ in 0..2 {
                for other in &*earlier {
                    let share = dot(column, other);
                    column.iter_mut().zip(other).for_each(|(value, other)| *value -= share * other);
                }
            }
            let left = dot(column, column).sqrt();
            let scale = if left > 1e-14 * length { 1.0 / left } else { 0.0 };
            column.iter_mut().for_each(|value| *value *= scale);
        }
        for (index, column) in columns.iter().enumerate() {
            let places = self.values.iter_mut().skip(index).step_by(self.columns);
            places.zip(column).for_each(|(place, value)| *place = *value);
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The eigenvalues of a symmetric matrix in descending order, and its eigenvectors as columns: Jacobi's method.
fn symmetric_eigen(mut a: Matrix) -> (Vec<f64>, Matrix) {
    let n = a.columns;
    let mut vectors = Matrix { rows: n, columns: n, values: vec![0.0; n * n] };
    (0..n).for_each(|index| vectors.values[index * n + index] = 1.0);
    for _sweep in 0..60 {
        let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a.values[i * n + j].powi(2)).sum();
        let diagonal: f64 = (0..n).map(|i| a.values[i * n + i].powi(2)).sum();
        if off <= 1e-30 * diagonal || off == 0.0 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                let apq = a.values[p * n + q];
                if apq == 0.0 {
                    continue;
                }
                let theta = (a.values[q * n + q] - a.values[p * n + p]) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (kp, kq) = (a.values[k * n + p], a.values[k * n + q]);
                    a.values[k * n + p] = c * kp - s * kq;
                    a.values[k * n + q] = s * kp + c * kq;
                }
                for k in 0..n {
                    let (pk, qk) = (a.values[p * n + k], a.values[q * n + k]);
                    a.values[p * n + k] = c * pk - s * qk;
                    a.values[q * n + k] = s * pk + c * qk;
                }
                for k in 0..n {
                    let (kp, kq) = (vectors.values[k * n + p], vectors.values[k * n + q]);
                    vectors.values[k * n + p] = c * kp - s * kq;
                    vectors.values[k * n + q] = s * kp + c * kq;
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a.values[j * n + j].total_cmp(&a.values[i * n + i]));
    let values = order.iter().map(|&i| a.values[i * n + i]).collect();
    let sorted = (0..n).flat_map(|row| order.iter().map(move |&column| (row, column)));
    let sorted = sorted.map(|(row, column)| vectors.values[row * n + column]).collect();
    (values, Matrix { rows: n, columns: n, values: sorted })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defining properties: scores are uncorrelated, their variances descend, and all components together keep every
    /// distance.
    #[test]
    fn all_components_are_uncorrelated_and_keep_distances() {
        let (rows, dimensions) = (40, 6);
        let mut stream = Stream::new(5, &[]);
        let vectors: Vec<f32> = (0..rows * dimensions).map(|i| stream.normal() * (1 + i % dimensions) as f32).collect();
        let found = principal_components(&vectors, dimensions, dimensions, 1);
        let scores = Matrix { rows, columns: found.count, values: found.scores.clone() };
        let gram = scores.gram();
        for i in 0..dimensions {
            for j in 0..dimensions {
                let expected = if i == j { found.variances[i] * (rows - 1) as f64 } else { 0.0 };
                assert!((gram.values[i * dimensions + j] - expected).abs() < 1e-8 * gram.values[0], "{i} {j}");
            }
        }
        assert!(found.variances.is_sorted_by(|a, b| a >= b));
        assert!((found.variances.iter().sum::<f64>() / found.total_variance - 1.0).abs() < 1e-9);
        let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let row = |i: usize| vectors[i * dimensions..][..dimensions].iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let original = distance(&row(3), &row(17));
        assert!((distance(scores.row(3), scores.row(17)) / original - 1.0).abs() < 1e-9);
    }

    /// With more dimensions than the subspace has: the first components, found by iteration, are those of the whole.
    #[test]
    fn the_first_of_many_components_are_found_by_iteration() {
        let (rows, dimensions) = (60, 50);
        let mut stream = Stream::new(6, &[]);
        let vectors: Vec<f32> =
            (0..rows * dimensions).map(|i| stream.normal() * (1.0 + 10.0 / (1 + i % dimensions) as f32)).collect();
        let some = principal_components(&vectors, dimensions, 3, 1);
        let all = principal_components(&vectors, dimensions, dimensions, 2);
        for component in 0..3 {
            assert!((some.variances[component] / all.variances[component] - 1.0).abs() < 1e-9);
            for row in 0..rows {
                let [a, b] = [some.scores[row * 3 + component], all.scores[row * dimensions + component]];
                assert!((a - b).abs() < 1e-4 * all.variances[0].sqrt(), "{component} {row}: {a} {b}");
            }
        }
    }

    #[test]
    fn equal_vectors_have_no_variance_and_few_have_few_components() {
        let equal = principal_components(&[1.0, 2.0, 1.0, 2.0], 2, 2, 0);
        assert!(equal.scores.iter().chain(&equal.variances).all(|&value| value == 0.0), "{equal:?}");
        assert_eq!(principal_components(&[1.0, 2.0, 5.0], 3, 2, 0).count, 1);
        assert_eq!(principal_components(&[], 3, 2, 0).count, 0);
    }
}
