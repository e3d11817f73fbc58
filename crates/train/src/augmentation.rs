//! The augmentation of training images that a recipe describes.

use crate::recipe::{Augment, CropPaddingMode, HflipMode, Recipe, Remode, TrainCropMode, TrainInterpolation};
use residual_data::{
    Augmentation, ColorJitter, DataError, ErasingMode, GaussianBlur, Grayscale, HorizontalFlip, Mix, Operation,
    PadAndCrop, Padding, RandomErasing, RandomResizedCrop, ResizeKeepRatio, Rotation, VerticalFlip,
};
use residual_preprocess::Interpolation;

impl Recipe {
    /// The augmentation of training images.
    ///
    /// # Errors
    /// [`DataError::Invalid`] with the setting whose text or list has no meaning.
    pub(crate) fn augmentation(&self) -> Result<Augmentation, DataError> {
        let interpolation = self.train_interpolation.map(|interpolation| match interpolation {
            TrainInterpolation::Bilinear => residual_data::TrainInterpolation::Fixed(Interpolation::Bilinear),
            TrainInterpolation::Bicubic => residual_data::TrainInterpolation::Fixed(Interpolation::Bicubic),
            TrainInterpolation::Random => residual_data::TrainInterpolation::Random,
        });
        Ok(Augmentation { operations: self.operations()?, interpolation, mix: self.mix() })
    }

    /// Operations that do nothing are left out.
    fn operations(&self) -> Result<Vec<Operation>, DataError> {
        let mut operations = vec![match self.augment {
            Augment::None => return Ok(Vec::new()),
            Augment::Crop => {
                let mode = match self.crop_padding_mode {
                    CropPaddingMode::Zero => Padding::Zero,
                    CropPaddingMode::Reflect => Padding::Reflect,
                };
                Operation::PadAndCrop(PadAndCrop { padding: self.crop_padding, mode })
            }
            Augment::ResizedCrop => {
                let [scale, ratio] = [self.scale, self.ratio].map(narrow);
                let keep_ratio =
                    |random_crop| Operation::ResizeKeepRatio(ResizeKeepRatio { scale, ratio, random_crop });
                match self.train_crop_mode {
                    TrainCropMode::ResizedCrop => Operation::RandomResizedCrop(RandomResizedCrop { scale, ratio }),
                    TrainCropMode::KeepRatioCentre => keep_ratio(false),
                    TrainCropMode::KeepRatioRandom => keep_ratio(true),
                }
            }
        }];
        let alternating = self.hflip_mode == HflipMode::Alternating;
        operations.push(Operation::HorizontalFlip(HorizontalFlip { probability: self.hflip as f32, alternating }));
        operations.extend(unless_zero(self.vflip, |probability| Operation::VerticalFlip(VerticalFlip { probability })));
        operations.extend(unless_zero(self.degrees, |degrees| Operation::Rotation(Rotation { degrees })));
        if let Some(aa) = &self.aa {
            operations.push(Operation::AutoAugment(aa.parse()?));
        }
        if let Some(strengths) = &self.color_jitter {
            let strengths: Vec<f32> = strengths.iter().map(|&strength| strength as f32).collect();
            let jitter = ColorJitter::new(&strengths, self.color_jitter_prob as f32)?;
            operations.push(Operation::ColorJitter(jitter));
        }
        operations
            .extend(unless_zero(self.grayscale_prob, |probability| Operation::Grayscale(Grayscale { probability })));
        operations.extend(unless_zero(self.gaussian_blur_prob, |probability| {
            Operation::GaussianBlur(GaussianBlur { probability })
        }));
        if self.reprob > 0.0 {
            let mode = match self.remode {
                Remode::Pixel => ErasingMode::Pixel,
                Remode::Const => ErasingMode::Const,
                Remode::Rand => ErasingMode::Rand,
            };
            let (probability, count) = (self.reprob as f32, self.recount as u32);
            operations.push(Operation::RandomErasing(RandomErasing { probability, mode, count }));
        }
        Ok(operations)
    }

    fn mix(&self) -> Mix {
        Mix {
            mixup: self.mixup as f32,
            cutmix: self.cutmix as f32,
            probability: self.mixup_prob as f32,
            switch_probability: self.mixup_switch_prob as f32,
            cutmix_minmax: self.cutmix_minmax.map(narrow),
            off_epoch: Some(self.mixup_off_epoch).filter(|&epoch| epoch > 0),
        }
    }

    /// Gives `rkrc` and `rkrr` timm's ranges of scale and ratio, where none is given.
    pub(crate) fn fill_crop_ranges(&mut self, is_given: impl Fn(&str) -> bool) {
        if self.augment != Augment::ResizedCrop || self.train_crop_mode == TrainCropMode::ResizedCrop {
            return;
        }
        if !is_given("scale") {
            self.scale = [0.8, 1.0];
        }
        if !is_given("ratio") {
            self.ratio = [0.9, 1.0 / 0.9];
        }
    }
}

/// The operation with `value`, if that is above 0.
fn unless_zero(value: f64, operation: fn(f32) -> Operation) -> Option<Operation> {
    (value > 0.0).then(|| operation(value as f32))
}

fn narrow([low, high]: [f64; 2]) -> [f32; 2] {
    [low as f32, high as f32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Layer;

    fn recipe(text: &str) -> Recipe {
        Recipe::resolve(&[Layer::parse("my.toml", &format!("epochs = 1\n{text}")).unwrap()]).unwrap().recipe
    }

    /// The augmentation of `timm/train.py --aa rand-m9-mstd0.5-inc1 --reprob 0.25 --recount 2 --train-interpolation random`.
    #[test]
    fn a_recipe_lowers_to_operations_in_timms_order() {
        let text = "augment = \"resized-crop\"\nhflip = 0.5\nvflip = 0.1\ncolor_jitter = [0.4]\nreprob = 0.25\nrecount = 2\n\
                    aa = \"rand-m9-mstd0.5-inc1\"\ntrain_interpolation = \"random\"\nmixup = 0.2\nmixup_off_epoch = 3";
        let augmentation = recipe(text).augmentation().unwrap();
        assert_eq!(augmentation.validate().map_err(|error| error.to_string()), Ok(()));
        let operations = [
            Operation::RandomResizedCrop(RandomResizedCrop { scale: [0.08, 1.0], ratio: [0.75, 4.0 / 3.0] }),
            Operation::HorizontalFlip(HorizontalFlip::new(0.5)),
            Operation::VerticalFlip(VerticalFlip { probability: 0.1 }),
            Operation::AutoAugment("rand-m9-mstd0.5-inc1".parse().unwrap()),
            Operation::ColorJitter(ColorJitter::new(&[0.4; 3], 1.0).unwrap()),
            Operation::RandomErasing(RandomErasing { probability: 0.25, mode: ErasingMode::Pixel, count: 2 }),
        ];
        assert_eq!(augmentation.operations, operations);
        assert_eq!(augmentation.interpolation, Some(residual_data::TrainInterpolation::Random));
        assert_eq!((augmentation.mix.mixup, augmentation.mix.off_epoch), (0.2, Some(3)));
        assert_eq!(recipe("").augmentation().unwrap(), Augmentation::default());
    }

    #[test]
    fn a_keep_ratio_crop_has_timms_ranges_where_none_is_given() {
        let mut recipe = recipe("augment = \"resized-crop\"\ntrain_crop_mode = \"rkrr\"\nratio = [0.5, 2.0]");
        recipe.fill_crop_ranges(|name| name == "ratio");
        assert_eq!((recipe.scale, recipe.ratio), ([0.8, 1.0], [0.5, 2.0]));
    }

    #[test]
    fn texts_and_lists_without_a_meaning_are_refused_where_they_were_given() {
        for (text, expected) in [
            (
                "aa = \"rand-m9-x\"",
                "my.toml: aa: expected m, n, p, mstd, mmax or inc with a number, or t with a set, got \"x\"",
            ),
            ("color_jitter = [0.4, 0.4]", "my.toml: color_jitter: expected one strength, three"),
            ("color_jitter = [0.4, 0.4, 0.4, 0.6]", "my.toml: color_jitter: expected a hue of 0 to 0.5"),
        ] {
            let layer = Layer::parse("my.toml", &format!("epochs = 1\naugment = \"crop\"\n{text}")).unwrap();
            let error = Recipe::resolve(&[layer]).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
