//! The parts of images that excite a channel most.

use residual_graph::Shape;
use serde::Serialize;

/// A place where a channel has a high value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Patch {
    /// The index of the image.
    pub image: usize,
    /// The row and column in the feature map.
    pub position: [usize; 2],
    /// The channel's value there.
    pub activation: f32,
}

/// The search for the highest values of some channels over any number of images, at most one for each image and channel.
#[derive(Clone, Debug)]
pub struct PatchSearch {
    shape: Shape,
    channels: Vec<usize>,
    keep: usize,
    /// For each channel, the best patches in descending order.
    best: Vec<Vec<Patch>>,
}

impl PatchSearch {
    /// A search in feature maps of this shape for the `keep` best patches of each channel.
    ///
    /// # Panics
    /// If the maps have no such channel.
    pub fn new(shape: Shape, channels: &[usize], keep: usize) -> Self {
        assert!(channels.iter().all(|&channel| channel < shape.channels), "channels of the feature map");
        Self { shape, channels: channels.to_vec(), keep, best: vec![Vec::new(); channels.len()] }
    }

    /// Looks at the feature map of one image (height × width × channels). Of equal values the first is kept.
    ///
    /// # Panics
    /// If the map has another shape.
    pub fn push(&mut self, image: usize, map: &[f32]) {
        assert_eq!(map.len(), self.shape.len(), "a feature map of the search");
        for (&channel, best) in self.channels.iter().zip(&mut self.best) {
            let values = map.iter().skip(channel).step_by(self.shape.channels).enumerate();
            let highest = values
                .fold((0, f32::NEG_INFINITY), |best, (at, &value)| if value > best.1 { (at, value) } else { best });
            let position = [highest.0 / self.shape.width, highest.0 % self.shape.width];
            let place = best.partition_point(|patch: &Patch| patch.activation >= highest.1);
            if place < self.keep {
                best.insert(place, Patch { image, position, activation: highest.1 });
                best.truncate(self.keep);
            }
        }
    }

    /// The channels, with their best patches in descending order of activation.
    pub fn finish(self) -> Vec<(usize, Vec<Patch>)> {
        self.channels.into_iter().zip(self.best).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_values_are_found_one_for_each_image() {
        let shape = Shape { height: 2, width: 2, channels: 2 };
        let mut search = PatchSearch::new(shape, &[1, 0], 2);
        // Channel 1: image 0 has its peak at (1, 0), image 1 at (0, 1), image 2 nothing above them.
        search.push(0, &[0.0, 1.0, 0.0, 4.0, 7.0, 5.0, 0.0, 5.0]);
        search.push(1, &[1.0, 0.0, 0.0, 9.0, 1.0, 8.0, 0.0, 0.0]);
        search.push(2, &[0.0; 8]);
        let found = search.finish();
        let patch = |image, position, activation| Patch { image, position, activation };
        assert_eq!(found[0], (1, vec![patch(1, [0, 1], 9.0), patch(0, [1, 0], 5.0)]));
        assert_eq!(found[1], (0, vec![patch(0, [1, 0], 7.0), patch(1, [0, 0], 1.0)]));
    }
}
