//! Nearest neighbours in feature space.

use serde::Serialize;

/// A neighbour of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Neighbour {
    /// Its index in the gallery.
    pub index: usize,
    /// The cosine of the angle between the vectors: 1 in the same direction, 0 where one of them is zero.
    pub similarity: f32,
}

/// The `count` vectors of `gallery` that are most similar to each of `queries`, all rows of `dimensions` values, in descending
/// order of cosine similarity. Where `same` is set, the queries are the gallery, and none is its own neighbour.
///
/// # Panics
/// If a list is not a whole number of rows.
pub fn nearest_neighbours(
    queries: &[f32],
    gallery: &[f32],
    dimensions: usize,
    count: usize,
    same: bool,
) -> Vec<Vec<Neighbour>> {
    assert!([queries, gallery].iter().all(|rows| rows.len().is_multiple_of(dimensions.max(1))), "rows of {dimensions}");
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let norms: Vec<f64> = gallery.chunks_exact(dimensions.max(1)).map(|row| dot(row, row).sqrt()).collect();
    let of_query = |(number, query): (usize, &[f32])| {
        let norm = dot(query, query).sqrt();
        let neighbour = |(index, row): (usize, &[f32])| {
            let scale = norm * norms[index];
            let similarity = if scale > 0.0 { (dot(query, row) / scale) as f32 } else { 0.0 };
            Neighbour { index, similarity }
        };
        let others = gallery.chunks_exact(dimensions.max(1)).enumerate().filter(|(index, _)| !same || *index != number);
        let mut all: Vec<Neighbour> = others.map(neighbour).collect();
        all.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then(a.index.cmp(&b.index)));
        all.truncate(count);
        all
    };
    queries.chunks_exact(dimensions.max(1)).enumerate().map(of_query).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_those_of_the_smallest_angle() {
        let gallery = [1.0, 0.0, 0.0, 2.0, 3.0, 3.0, -1.0, 0.0, 0.0, 0.0];
        let found = nearest_neighbours(&[5.0, 0.1], &gallery, 2, 3, false);
        assert_eq!(found[0].iter().map(|neighbour| neighbour.index).collect::<Vec<_>>(), [0, 2, 1]);
        let itself = nearest_neighbours(&gallery, &gallery, 2, 2, true);
        assert_eq!(itself[0].iter().map(|neighbour| neighbour.index).collect::<Vec<_>>(), [2, 1]);
        assert!((itself[0][0].similarity - 0.5f32.sqrt()).abs() < 1e-6);
        assert_eq!(itself[4][0], Neighbour { index: 0, similarity: 0.0 });
    }
}
