//! The ten shapes, as signed distances in a square of about −1 to 1.

/// The classes, by label.
pub(super) const NAMES: [&str; 10] =
    ["circle", "square", "triangle", "hourglass", "star", "cross", "ring", "crescent", "heart", "arrow"];

type Point = [f32; 2];

/// The signed distance of a point to the outline of the shape with the given label: negative inside. The y axis
/// points down.
pub(super) fn distance(label: usize, point: Point) -> f32 {
    let radius = length(point);
    match label {
        0 => radius - 0.85,
        6 => (radius - 0.66).abs() - 0.22,
        7 => (radius - 0.92).max(0.72 - length([point[0] - 0.42, point[1]])),
        _ => polygon(outline(label), point),
    }
}

/// The corners of the polygonal shapes, in order.
fn outline(label: usize) -> &'static [Point] {
    match label {
        1 => &[[-0.75, -0.75], [0.75, -0.75], [0.75, 0.75], [-0.75, 0.75]],
        2 => &[[0.0, -0.95], [0.9, 0.7], [-0.9, 0.7]],
        3 => &[[-0.78, -0.9], [0.78, -0.9], [0.14, 0.0], [0.78, 0.9], [-0.78, 0.9], [-0.14, 0.0]],
        4 => &[
            [0.0, -1.0],
            [0.235, -0.324],
            [0.951, -0.309],
            [0.38, 0.124],
            [0.588, 0.809],
            [0.0, 0.4],
            [-0.588, 0.809],
            [-0.38, 0.124],
            [-0.951, -0.309],
            [-0.235, -0.324],
        ],
        5 => &[
            [-0.27, -0.92],
            [0.27, -0.92],
            [0.27, -0.27],
            [0.92, -0.27],
            [0.92, 0.27],
            [0.27, 0.27],
            [0.27, 0.92],
            [-0.27, 0.92],
            [-0.27, 0.27],
            [-0.92, 0.27],
            [-0.92, -0.27],
            [-0.27, -0.27],
        ],
        8 => &[
            [0.0, -0.42],
            [0.2, -0.74],
            [0.5, -0.84],
            [0.8, -0.7],
            [0.93, -0.36],
            [0.82, 0.02],
            [0.0, 0.92],
            [-0.82, 0.02],
            [-0.93, -0.36],
            [-0.8, -0.7],
            [-0.5, -0.84],
            [-0.2, -0.74],
        ],
        _ => &[[0.0, -0.95], [0.75, -0.1], [0.28, -0.1], [0.28, 0.92], [-0.28, 0.92], [-0.28, -0.1], [-0.75, -0.1]],
    }
}

/// The signed distance to a polygon: the nearest edge, and the parity of the edges that a ray crosses.
fn polygon(corners: &[Point], [x, y]: Point) -> f32 {
    let mut nearest = f32::MAX;
    let mut inside = false;
    let mut previous = corners[corners.len() - 1];
    for &corner in corners {
        let edge = [previous[0] - corner[0], previous[1] - corner[1]];
        let to = [x - corner[0], y - corner[1]];
        let along = ((to[0] * edge[0] + to[1] * edge[1]) / (edge[0] * edge[0] + edge[1] * edge[1])).clamp(0.0, 1.0);
        let off = [to[0] - edge[0] * along, to[1] - edge[1] * along];
        nearest = nearest.min(off[0] * off[0] + off[1] * off[1]);
        if (corner[1] > y) != (previous[1] > y) && x < edge[0] * to[1] / edge[1] + corner[0] {
            inside = !inside;
        }
        previous = corner;
    }
    if inside { -nearest.sqrt() } else { nearest.sqrt() }
}

fn length([x, y]: Point) -> f32 {
    (x * x + y * y).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_has_its_own_area_inside_the_square() {
        let area = |label| {
            let steps = -60..=60;
            let cells = steps.clone().flat_map(|y| steps.clone().map(move |x| [x as f32 / 50.0, y as f32 / 50.0]));
            cells.filter(|&point| distance(label, point) < 0.0).count() as f32 / 2500.0
        };
        // Known areas: π·0.85², 1.5², ½·1.8·1.65, the ring's π(0.88² − 0.44²), and five squares less their corners.
        for (label, expected) in [(0, 2.27), (1, 2.25), (2, 1.485), (5, 1.70), (6, 1.825)] {
            assert!((area(label) - expected).abs() < 0.05, "{}: {}", NAMES[label], area(label));
        }
        for (label, name) in NAMES.iter().enumerate() {
            assert!((0.7..2.4).contains(&area(label)), "{name}: {}", area(label));
            for side in [-1.1, 1.1] {
                assert!(distance(label, [side, 0.3]) > 0.0 && distance(label, [0.3, side]) > 0.0);
            }
        }
    }
}
