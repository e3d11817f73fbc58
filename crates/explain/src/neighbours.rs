//! Nearest neighbours in feature space.

use residual_engine::Options;
use serde::Serialize;
use std::sync::OnceLock;

/// Queries that are searched for together, between two reports of the progress.
const QUERIES: usize = 64;
/// Values that are multiplied at once.
const LANES: usize = 16;

/// A neighbour of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Neighbour {
    /// Its index in the gallery.
    pub index: usize,
    /// The cosine of the angle between the vectors: 1 in the same direction, 0 where one of them is zero.
    pub similarity: f32,
}

/// The `count` vectors of `gallery` that are most similar to each of `queries`, all rows of `dimensions` values, in descending
/// order of cosine similarity, by comparing all with all on the threads of `options`. Where `same` is set, the queries are the
/// gallery, and none is its own neighbour. `progress` is called with the number of queries that are done; if it returns false, the
/// result is `None`.
///
/// # Panics
/// If a list is not a whole number of rows.
pub fn nearest_neighbours(
    queries: &[f32],
    gallery: &[f32],
    dimensions: usize,
    count: usize,
    same: bool,
    options: &Options,
    mut progress: impl FnMut(usize) -> bool,
) -> Option<Vec<Vec<Neighbour>>> {
    let dimensions = dimensions.max(1);
    assert!([queries, gallery].iter().all(|rows| rows.len().is_multiple_of(dimensions)), "rows of {dimensions}");
    let gallery = normalised(gallery, dimensions);
    let queries = normalised(queries, dimensions);
    let of_query = |number: usize| {
        let query = &queries[number * dimensions..][..dimensions];
        let rows = gallery.chunks_exact(dimensions).enumerate().filter(|(index, _)| !same || *index != number);
        let mut all: Vec<Neighbour> =
            rows.map(|(index, row)| Neighbour { index, similarity: dot(query, row) }).collect();
        let nearer = |a: &Neighbour, b: &Neighbour| b.similarity.total_cmp(&a.similarity).then(a.index.cmp(&b.index));
        if count < all.len() {
            all.select_nth_unstable_by(count, nearer);
            all.truncate(count);
        }
        all.sort_unstable_by(nearer);
        all
    };
    let total = queries.len() / dimensions;
    let found: Vec<OnceLock<Vec<Neighbour>>> = (0..total).map(|_| OnceLock::new()).collect();
    for first in (0..total).step_by(QUERIES) {
        let end = (first + QUERIES).min(total);
        options.pool.run(end - first, |task, _| {
            found[first + task].get_or_init(|| of_query(first + task));
        });
        if !progress(end) {
            return None;
        }
    }
    Some(found.into_iter().map(|found| found.into_inner().expect("every query was searched for")).collect())
}

/// The rows, each divided by its length; rows of zeros stay.
fn normalised(rows: &[f32], dimensions: usize) -> Vec<f32> {
    let mut rows = rows.to_vec();
    for row in rows.chunks_exact_mut(dimensions) {
        let length = row.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
        }
    }
    rows
}

/// The sum of products.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (parts, others) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = parts.remainder().iter().zip(others.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in parts.zip(others) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(queries: &[f32], gallery: &[f32], count: usize, same: bool, threads: usize) -> Vec<Vec<Neighbour>> {
        let options = Options::threads(threads);
        nearest_neighbours(queries, gallery, 2, count, same, &options, |_| true).unwrap()
    }

    #[test]
    fn neighbours_are_those_of_the_smallest_angle() {
        let gallery = [1.0, 0.0, 0.0, 2.0, 3.0, 3.0, -1.0, 0.0, 0.0, 0.0];
        let nearest = found(&[5.0, 0.1], &gallery, 3, false, 1);
        assert_eq!(nearest[0].iter().map(|neighbour| neighbour.index).collect::<Vec<_>>(), [0, 2, 1]);
        let itself = found(&gallery, &gallery, 2, true, 1);
        assert_eq!(itself[0].iter().map(|neighbour| neighbour.index).collect::<Vec<_>>(), [2, 1]);
        assert!((itself[0][0].similarity - 0.5f32.sqrt()).abs() < 1e-6);
        assert_eq!(itself[4][0], Neighbour { index: 0, similarity: 0.0 });
        assert_eq!(found(&gallery, &gallery, 9, true, 1)[0].len(), 4, "all there are");
    }

    #[test]
    fn the_result_does_not_depend_on_threads_and_the_search_can_be_stopped() {
        let gallery: Vec<f32> = (0..600).map(|index| (index * 37 % 101) as f32 - 50.0).collect();
        assert_eq!(found(&gallery, &gallery, 5, true, 1), found(&gallery, &gallery, 5, true, 3));
        let options = Options::threads(1);
        let mut reports = Vec::new();
        let stopped = nearest_neighbours(&gallery, &gallery, 2, 5, true, &options, |done| {
            reports.push(done);
            done < 100
        });
        assert_eq!((stopped, reports), (None, vec![64, 128]));
    }
}
