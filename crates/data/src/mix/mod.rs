//! MixUp (Zhang et al., 2018, arXiv:1710.09412) and CutMix (Yun et al., 2019, arXiv:1905.04899): augmentation of whole
//! batches.
//!
//! As in torchvision's `transforms.v2.MixUp` and `CutMix`, each image is mixed with the previous one of its batch, the
//! first with the last. The probabilities of the two are set as in timm.

use residual_tensor::Stream;

use crate::augment::probability;
use crate::targets::TargetBuffer;
use crate::{DataError, beta};

/// The settings of MixUp and CutMix. The default does not mix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// MixUp's alpha: lambda, the weight of the image itself, is sampled from Beta(alpha, alpha). 0 disables MixUp.
    pub mixup: f32,
    /// CutMix's alpha: lambda, the fraction of the area that is kept, is sampled from Beta(alpha, alpha). 0 disables
    /// CutMix.
    pub cutmix: f32,
    /// The probability that a batch is mixed.
    pub probability: f32,
    /// The probability of CutMix, where a batch is mixed and both are on.
    pub switch_probability: f32,
    /// Where CutMix is on, the minimum and maximum side of its rectangle as a fraction of the image's, in place of its alpha
    /// (timm's `cutmix_minmax`). The rectangle lies within the image.
    pub cutmix_minmax: Option<[f32; 2]>,
    /// The first epoch, from 0, in which batches are no longer mixed; `None` to mix in all.
    pub off_epoch: Option<u64>,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            mixup: 0.0,
            cutmix: 0.0,
            probability: 1.0,
            switch_probability: 0.5,
            cutmix_minmax: None,
            off_epoch: None,
        }
    }
}

/// The mixing of one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mixing {
    /// The sum of `lambda` times the image and `1 − lambda` times its partner.
    MixUp { lambda: f32 },
    /// The image with a rectangle of its partner.
    CutMix(Rectangle),
}

/// Rows `top..bottom` and columns `left..right`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rectangle {
    top: usize,
    left: usize,
    bottom: usize,
    right: usize,
}

impl Mix {
    /// The upper limit of [`mixup`](Self::mixup) and [`cutmix`](Self::cutmix).
    pub const MAX_ALPHA: f32 = 1000.0;

    pub(crate) fn validate(&self) -> Result<(), DataError> {
        for (setting, alpha) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            if !(0.0..=Self::MAX_ALPHA).contains(&alpha) {
                return Err(DataError::invalid(setting, format!("an alpha of 0 to {}", Self::MAX_ALPHA), alpha));
            }
        }
        if let Some([low, high]) = self.cutmix_minmax
            && !(low > 0.0 && low <= high && high <= 1.0)
        {
            return Err(DataError::invalid("cutmix_minmax", "0 < low <= high <= 1", format!("[{low}, {high}]")));
        }
        probability("mixup_prob", self.probability)?;
        probability("mixup_switch_prob", self.switch_probability)
    }

    /// Whether any batch of `epoch` is mixed.
    pub(crate) fn is_on(&self, epoch: u64) -> bool {
        (self.mixup > 0.0 || self.cutmix > 0.0) && self.off_epoch.is_none_or(|off| epoch < off)
    }

    /// Mixes a batch of n × height × width × channels and its targets. A single image is not changed.
    pub(crate) fn apply(&self, images: &mut [f32], size: [usize; 2], targets: &mut TargetBuffer, random: &mut Stream) {
        let count = targets.labels().len();
        if count < 2 {
            return;
        }
        if let Some(mixing) = self.draw(size, random) {
            mixing.mix(images, count, size);
            targets.mix(mixing.lambda(size));
        }
    }

    /// The mixing of a batch, chosen as in timm's `Mixup._params_per_batch`.
    fn draw(&self, size: [usize; 2], random: &mut Stream) -> Option<Mixing> {
        if self.mixup == 0.0 && self.cutmix == 0.0 || !random.chance(self.probability) {
            return None;
        }
        let cutmix = self.mixup == 0.0 || self.cutmix > 0.0 && random.chance(self.switch_probability);
        if let (true, Some(minmax)) = (cutmix, self.cutmix_minmax) {
            return Some(Mixing::CutMix(Rectangle::within(minmax, size, random)));
        }
        let lambda = beta::symmetric(f64::from(if cutmix { self.cutmix } else { self.mixup }), random);
        if !cutmix {
            return Some(Mixing::MixUp { lambda: lambda as f32 });
        }
        let [row, column] = size.map(|side| random.below(side as u32) as usize);
        Some(Mixing::CutMix(Rectangle::new(lambda, [row, column], size)))
    }
}

impl Mixing {
    /// Lambda: the weight of the image itself.
    fn lambda(self, [height, width]: [usize; 2]) -> f32 {
        match self {
            Self::MixUp { lambda } => lambda,
            Self::CutMix(cut) => {
                let area = (cut.bottom - cut.top) * (cut.right - cut.left);
                (1.0 - area as f64 / (height * width) as f64) as f32
            }
        }
    }

    /// Mixes `count` images with their partners.
    fn mix(self, images: &mut [f32], count: usize, [height, width]: [usize; 2]) {
        let image_len = images.len() / count;
        match self {
            Self::MixUp { lambda } => blend(images, image_len, lambda),
            Self::CutMix(cut) => {
                let channels = image_len / (height * width);
                for row in cut.top..cut.bottom {
                    let [start, end] = [cut.left, cut.right].map(|column| (row * width + column) * channels);
                    with_partners(images, image_len, start..end, |own, partner| *own = partner);
                }
            }
        }
    }
}

impl Rectangle {
    /// torchvision's box with a fraction `1 − lambda` of the area around `centre`, clipped to the image.
    fn new(lambda: f64, centre: [usize; 2], size: [usize; 2]) -> Self {
        let ratio = 0.5 * (1.0 - lambda).sqrt();
        let [[top, bottom], [left, right]] = [0, 1].map(|axis| {
            let half = (ratio * size[axis] as f64) as usize;
            [centre[axis].saturating_sub(half), (centre[axis] + half).min(size[axis])]
        });
        Self { top, left, bottom, right }
    }

    /// timm's `rand_bbox_minmax`: sides of a random fraction in `low..high` of the image's, at a random place within it.
    fn within([low, high]: [f32; 2], size: [usize; 2], random: &mut Stream) -> Self {
        let mut range = |side: usize| {
            let [least, most] = [low, high].map(|share| (side as f64 * f64::from(share)) as u32);
            let length = (least + random.below((most - least).max(1))) as usize;
            let start = random.below((side - length) as u32 + 1) as usize;
            [start, start + length]
        };
        let [[top, bottom], [left, right]] = size.map(&mut range);
        Self { top, left, bottom, right }
    }
}

/// Adds `1 − lambda` times its partner to `lambda` times each row of `len` values.
pub(crate) fn blend(rows: &mut [f32], len: usize, lambda: f32) {
    let rest = 1.0 - lambda;
    with_partners(rows, len, 0..len, |own, partner| *own = partner * rest + *own * lambda);
}

/// Calls `change` for each value in `range` of each row of `len` values, with that of the row's partner: the one before
/// it, or the last for the first. Partners are read before they are changed.
fn with_partners(rows: &mut [f32], len: usize, range: std::ops::Range<usize>, change: impl Fn(&mut f32, f32)) {
    const BLOCK: usize = 1024;
    let count = rows.len() / len;
    let mut last = [0.0; BLOCK];
    for start in range.clone().step_by(BLOCK) {
        let width = BLOCK.min(range.end - start);
        // From the last row to the first, a row is changed after its successor has read it; the last one is copied first.
        last[..width].copy_from_slice(&rows[(count - 1) * len + start..][..width]);
        for row in (1..count).rev() {
            let (before, own) = rows.split_at_mut(row * len);
            let partner = &before[(row - 1) * len + start..][..width];
            own[start..][..width].iter_mut().zip(partner).for_each(|(own, partner)| change(own, *partner));
        }
        rows[start..][..width].iter_mut().zip(&last).for_each(|(own, partner)| change(own, *partner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Targets;
    use safetensors::SafeTensors;

    /// Batches that torchvision mixed, with the lambdas and boxes it drew: `tests/golden/make_mix.py`.
    #[test]
    fn batches_are_mixed_as_torchvision_mixes_them() {
        let file = include_bytes!("../../tests/golden/mix.safetensors");
        let file = SafeTensors::deserialize(file).unwrap();
        let floats = |name: &str| -> Vec<f32> {
            let bytes = file.tensor(name).unwrap().data().as_chunks::<4>().0;
            bytes.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
        };
        let integers = |name: &str| -> Vec<usize> {
            let bytes = file.tensor(name).unwrap().data().as_chunks::<8>().0;
            bytes.iter().map(|&bytes| i64::from_le_bytes(bytes) as usize).collect()
        };
        let cases = file.names().into_iter().filter_map(|name| name.strip_suffix(".images"));
        let mut kinds = [0; 2];
        for case in cases {
            let [count, height, width, channels] =
                file.tensor(&format!("{case}.images")).unwrap().shape().try_into().unwrap();
            let size = [height, width];
            let mut images = floats(&format!("{case}.images"));
            let drawn = file.tensor(&format!("{case}.lambda")).unwrap();
            let drawn = f64::from_le_bytes(drawn.data().try_into().unwrap());
            let mixing = if case.starts_with("mixup") {
                kinds[0] += 1;
                Mixing::MixUp { lambda: drawn as f32 }
            } else {
                kinds[1] += 1;
                let [row, column] = integers(&format!("{case}.centre"))[..] else { panic!("two coordinates") };
                let cut = Rectangle::new(drawn, [row, column], size);
                assert_eq!(integers(&format!("{case}.box")), [cut.left, cut.top, cut.right, cut.bottom], "{case}");
                Mixing::CutMix(cut)
            };
            mixing.mix(&mut images, count, size);
            assert_eq!(images.len(), count * height * width * channels);
            assert!(images == floats(&format!("{case}.mixed")), "{case}: the images differ");

            let mut targets = TargetBuffer::default();
            integers(&format!("{case}.labels")).iter().for_each(|&label| targets.push(label as u32, None));
            targets.mix(mixing.lambda(size));
            let Targets::Mixed { a, b, lambda } = targets.targets() else { panic!("mixed targets") };
            let expected = floats(&format!("{case}.targets"));
            let classes = expected.len() / count;
            for (image, expected) in expected.chunks_exact(classes).enumerate() {
                let mut dense = vec![0.0; classes];
                dense[a[image] as usize] += lambda;
                dense[b[image] as usize] += 1.0 - lambda;
                let close = dense.iter().zip(expected).all(|(got, expected)| (got - expected).abs() <= 1e-6);
                assert!(close, "{case}, image {image}: expected {expected:?}, got {dense:?}");
            }
        }
        assert!(kinds[0] >= 3 && kinds[1] >= 5, "{kinds:?} cases");
    }

    #[test]
    fn soft_targets_are_mixed_as_images_are() {
        let mut targets = TargetBuffer::default();
        targets.push(0, Some(&[0.75, 0.25]));
        targets.push(1, Some(&[0.0, 1.0]));
        targets.mix(0.75);
        assert_eq!(targets.targets(), Targets::Soft { values: &[0.5625, 0.4375, 0.1875, 0.8125], classes: 2 });
    }

    #[test]
    fn probabilities_are_kept() {
        let mix = Mix { mixup: 0.8, cutmix: 1.0, probability: 0.7, switch_probability: 0.25, ..Mix::default() };
        let count = |mix: Mix| {
            (0..10_000).fold([0; 3], |mut counts, batch| {
                counts[match mix.draw([32, 32], &mut Stream::new(3, &[0, batch])) {
                    None => 0,
                    Some(Mixing::MixUp { .. }) => 1,
                    Some(Mixing::CutMix(_)) => 2,
                }] += 1;
                counts
            })
        };
        let [none, mixup, cutmix] = count(mix);
        assert!((none - 3000i32).abs() < 150 && (mixup - 5250).abs() < 150 && (cutmix - 1750).abs() < 150);
        assert_eq!(count(Mix::default()), [10_000, 0, 0]);
        assert_eq!(count(Mix { mixup: 0.2, ..Mix::default() }), [0, 10_000, 0]);
        assert_eq!(count(Mix { cutmix: 1.0, ..Mix::default() }), [0, 0, 10_000]);
    }

    #[test]
    fn a_rectangle_between_two_fractions_lies_within_the_image() {
        let mix = Mix { cutmix: 1.0, cutmix_minmax: Some([0.25, 0.75]), ..Mix::default() };
        let mut sides = std::collections::BTreeSet::new();
        for batch in 0..500 {
            let mixing = mix.draw([32, 20], &mut Stream::new(3, &[0, batch])).unwrap();
            let Mixing::CutMix(cut) = mixing else { panic!("{mixing:?}") };
            assert!(cut.bottom <= 32 && cut.right <= 20);
            sides.extend([cut.bottom - cut.top, 100 + cut.right - cut.left]);
        }
        // numpy.random.randint(8, 24) and randint(5, 15), which exclude the upper end.
        assert!(sides.iter().copied().eq((8..24).chain(105..115)), "{sides:?}");
    }

    #[test]
    fn batches_are_mixed_until_the_off_epoch() {
        let mix = Mix { mixup: 0.2, off_epoch: Some(3), ..Mix::default() };
        assert_eq!([0, 2, 3, 9].map(|epoch| mix.is_on(epoch)), [true, true, false, false]);
        assert!(!Mix::default().is_on(0) && Mix { cutmix: 1.0, ..Mix::default() }.is_on(u64::MAX));
    }

    #[test]
    fn a_single_image_stays_as_it_is() {
        let mix = Mix { mixup: 0.2, cutmix: 1.0, ..Mix::default() };
        let mut targets = TargetBuffer::default();
        targets.push(7, None);
        let mut image = vec![1.0, 2.0, 3.0, 4.0];
        mix.apply(&mut image, [2, 2], &mut targets, &mut Stream::new(0, &[]));
        assert_eq!((&image[..], targets.targets()), (&[1.0, 2.0, 3.0, 4.0][..], Targets::Hard(&[7])));
        targets.clear();
        mix.apply(&mut [], [2, 2], &mut targets, &mut Stream::new(0, &[]));
        assert!(targets.targets().is_empty());
    }

    #[test]
    fn the_share_that_stays_is_that_of_the_pixels_that_stay() {
        let mut random = Stream::new(9, &[]);
        for size in [[1, 1], [1, 7], [5, 3], [32, 32], [224, 160]] {
            let mix = Mix { cutmix: 1.0, ..Mix::default() };
            for _ in 0..200 {
                let mixing = mix.draw(size, &mut random).unwrap();
                let area = size[0] * size[1];
                let mut images: Vec<f32> = [vec![0.0; area], vec![1.0; area]].concat();
                mixing.mix(&mut images, 2, size);
                let kept = images[..area].iter().filter(|&&value| value == 0.0).count();
                assert!((mixing.lambda(size) - kept as f32 / area as f32).abs() < 1e-6);
                assert!(images[..area].iter().zip(&images[area..]).all(|(a, b)| a + b == 1.0));
            }
        }
    }

    #[test]
    fn a_setting_out_of_range_is_named() {
        let message = |mix: Mix| mix.validate().unwrap_err().to_string();
        assert_eq!(message(Mix { mixup: -1.0, ..Mix::default() }), "mixup: expected an alpha of 0 to 1000, got -1");
        assert!(message(Mix { cutmix: f32::NAN, ..Mix::default() }).starts_with("cutmix: "));
        assert!(message(Mix { probability: 1.5, ..Mix::default() }).starts_with("mixup_prob: "));
        assert!(message(Mix { switch_probability: -0.1, ..Mix::default() }).starts_with("mixup_switch_prob: "));
    }
}
