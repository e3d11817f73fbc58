//! torchvision's `RandomCrop(size, padding, padding_mode)`.

use residual_preprocess::Window;
use residual_tensor::Stream;

use super::Padding;
use crate::DataError;

/// Shifts the evaluation's crop by up to `padding` pixels in each direction. For an image of the network's size this is
/// torchvision's `RandomCrop(size, padding, padding_mode)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PadAndCrop {
    /// The padding (maximum shift) in pixels.
    pub padding: usize,
    /// The pixels outside the image, before normalisation.
    pub mode: Padding,
}

impl PadAndCrop {
    /// The largest [`padding`](Self::padding).
    pub const MAX_PADDING: usize = 1024;

    pub(super) fn validate(&self) -> Result<(), DataError> {
        if self.padding > Self::MAX_PADDING {
            let expected = format!("at most {} pixels", Self::MAX_PADDING);
            return Err(DataError::invalid("crop_padding", expected, self.padding));
        }
        Ok(())
    }

    pub(super) fn shift(&self, window: Window, random: &mut Stream) -> Window {
        let mut shift = || random.below(2 * self.padding as u32 + 1) as isize - self.padding as isize;
        Window { top: window.top + shift(), left: window.left + shift(), ..window }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{image, run, unscaled};
    use super::*;
    use crate::{Augmentation, Operation, Sample, SampleRandom, Transform};

    #[test]
    fn a_padded_crop_is_a_shift_with_black_outside() {
        let augmentation = Augmentation::new([Operation::PadAndCrop(PadAndCrop { padding: 4, mode: Padding::Zero })]);
        let transform = Transform::training(unscaled([8, 8]), augmentation).unwrap();
        let source = image(8, 8);
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..2000 {
            let output = run(&transform, &Sample::Pixels(source.clone()), SampleRandom::new(1, 0, index));
            let shift = (-4..=4).flat_map(|top| (-4..=4).map(move |left| (top, left))).find(|&(top, left)| {
                (0..8isize).all(|y| {
                    (0..8isize).all(|x| {
                        let inside = (0..8).contains(&(y + top)) && (0..8).contains(&(x + left));
                        let at = ((y + top) * 8 + x + left) as usize;
                        let expected = if inside { [(at % 251) as f32, 0.0, 7.0] } else { [0.0; 3] };
                        let got = &output[(y * 8 + x) as usize * 3..][..3];
                        got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-3)
                    })
                })
            });
            seen.insert(shift.expect("some shift of the image"));
        }
        assert_eq!(seen.len(), 81, "every shift occurs");
    }

    #[test]
    fn a_reflected_crop_is_a_shift_of_the_mirrored_image() {
        let crop = PadAndCrop { padding: 2, mode: Padding::Reflect };
        let transform =
            Transform::training(unscaled([4, 4]), Augmentation::new([Operation::PadAndCrop(crop)])).unwrap();
        for index in 0..50 {
            let random = SampleRandom::new(1, 0, index);
            let window = crop.shift(Window::default(), &mut random.stream());
            let output = run(&transform, &Sample::Pixels(image(4, 4)), random);
            for (at, pixel) in output.chunks_exact(3).enumerate() {
                // numpy.pad([0, 1, 2, 3], 2, mode="reflect")
                let mirrored = [2, 1, 0, 1, 2, 3, 2, 1];
                let [y, x] = [window.top + at as isize / 4, window.left + at as isize % 4];
                let [y, x] = [y, x].map(|at| mirrored[(at + 2) as usize]);
                assert_eq!(pixel[0].round() as usize, y * 4 + x);
            }
        }
    }
}
