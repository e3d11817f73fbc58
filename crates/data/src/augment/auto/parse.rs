//! Parses the texts of `aa`.

use std::str::FromStr;

use super::aug_mix::AugMix;
use super::rand_augment::{OpSet, RandAugment};
use super::timm::{Application, FULL, Noise, Policy};
use super::{AutoAugment, Kind, torchvision};
use crate::DataError;

/// The accepted forms, for errors.
const FORMS: &str = "rand-m9-mstd0.5-inc1 and its like, augmix-m3-w3, original, originalr, v0, v0r, 3a, ra-m9-n2, ta_wide, \
                     autoaugment, cifar10 or svhn";

impl FromStr for AutoAugment {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let mut sections = text.split('-');
        let name = sections.next().unwrap_or_default();
        let sections = Sections { text, sections: sections.collect() };
        let kind = match name {
            "rand" => Kind::RandAugment(sections.rand_augment()?),
            "augmix" => Kind::AugMix(sections.aug_mix()?),
            "original" => sections.policy(Policy::Original)?,
            "originalr" => sections.policy(Policy::OriginalIncreasing)?,
            "v0" => sections.policy(Policy::V0)?,
            "v0r" => sections.policy(Policy::V0Increasing)?,
            "3a" => sections.policy(Policy::ThreeAugment)?,
            "ra" => sections.torch_rand_augment()?,
            "ta_wide" => sections.none(Kind::TrivialWide)?,
            "autoaugment" => sections.none(Kind::TorchPolicy(torchvision::Policy::ImageNet))?,
            "cifar10" => sections.none(Kind::TorchPolicy(torchvision::Policy::Cifar10))?,
            "svhn" => sections.none(Kind::TorchPolicy(torchvision::Policy::Svhn))?,
            _ => return Err(DataError::invalid("aa", FORMS, format!("{text:?}"))),
        };
        Ok(Self(kind))
    }
}

/// The sections behind the name, such as `m9`.
struct Sections<'a> {
    text: &'a str,
    sections: Vec<&'a str>,
}

impl Sections<'_> {
    fn rand_augment(&self) -> Result<RandAugment, DataError> {
        let mut augment = RandAugment {
            magnitude: FULL,
            layers: 2,
            probability: 0.5,
            ops: OpSet::Plain,
            application: Application::new(Noise::None),
        };
        let (mut increasing, mut set) = (false, None);
        for section in &self.sections {
            if let Some(name) = section.strip_prefix('t') {
                set = Some(match name {
                    "weights" => OpSet::Weighted,
                    "3aw" => OpSet::WeightedThreeAugment,
                    "3a" => OpSet::ThreeAugment,
                    _ => return Err(self.invalid(section, "tweights, t3a or t3aw")),
                });
                continue;
            }
            match key(section) {
                ("m", value) => augment.magnitude = self.whole(section, value, 0, 1000)? as f64,
                ("n", value) => augment.layers = self.whole(section, value, 1, 16)?,
                ("p", value) => augment.probability = self.number(section, value, 1.0)?,
                ("mstd", value) => {
                    augment.application.noise = match self.number(section, value, f64::INFINITY)? {
                        deviation if deviation > 100.0 => Noise::Uniform,
                        deviation => normal(deviation),
                    }
                }
                ("mmax", value) => augment.application.most = self.whole(section, value, 1, 1000)? as f64,
                ("inc", value) => increasing = self.whole(section, value, 0, 1)? == 1,
                ("w", _) => return Err(self.invalid(section, "tweights for weighted operations")),
                _ => return Err(self.invalid(section, "m, n, p, mstd, mmax or inc with a number, or t with a set")),
            }
        }
        augment.ops = set.unwrap_or(if increasing { OpSet::Increasing } else { OpSet::Plain });
        let (ops, weights) = augment.ops.ops();
        if weights.is_some() && augment.layers > ops.len() {
            return Err(self.invalid(&format!("n{}", augment.layers), &format!("at most {} layers", ops.len())));
        }
        Ok(augment)
    }

    fn aug_mix(&self) -> Result<AugMix, DataError> {
        let application = Application { reach: 0.3, ..Application::new(Noise::Uniform) };
        let mut augment = AugMix { magnitude: 3.0, width: 3, depth: None, alpha: 1.0, blended: false, application };
        let mut sections = self.sections.iter().peekable();
        while let Some(section) = sections.next() {
            match key(section) {
                ("m", value) => augment.magnitude = self.whole(section, value, 0, 1000)? as f64,
                ("w", value) => augment.width = self.whole(section, value, 1, AugMix::MAX_WIDTH)?,
                // `d-1`, timm's default, is split at its sign.
                ("d", "") if sections.next_if(|next| **next == "1").is_some() => augment.depth = None,
                ("d", value) => augment.depth = Some(self.whole(section, value, 1, 16)?),
                ("a", value) => {
                    augment.alpha = self.number(section, value, 1000.0)?;
                    if augment.alpha == 0.0 {
                        return Err(self.invalid(section, "a number above 0"));
                    }
                }
                ("b", value) => augment.blended = self.whole(section, value, 0, 1)? == 1,
                ("mstd", value) => {
                    augment.application.noise = normal(self.number(section, value, f64::INFINITY)?);
                }
                _ => return Err(self.invalid(section, "m, w, d, a, b or mstd with a number")),
            }
        }
        Ok(augment)
    }

    fn policy(&self, policy: Policy) -> Result<Kind, DataError> {
        let mut noise = Noise::None;
        for section in &self.sections {
            match key(section) {
                ("mstd", value) => noise = normal(self.number(section, value, f64::INFINITY)?),
                _ => return Err(self.invalid(section, "mstd with a number")),
            }
        }
        Ok(Kind::Policy { policy, noise })
    }

    fn torch_rand_augment(&self) -> Result<Kind, DataError> {
        let (mut magnitude, mut layers) = (9, 2);
        for section in &self.sections {
            match key(section) {
                ("m", value) => magnitude = self.whole(section, value, 0, torchvision::BINS - 1)?,
                ("n", value) => layers = self.whole(section, value, 1, 16)?,
                _ => return Err(self.invalid(section, "m or n with a number")),
            }
        }
        Ok(Kind::TorchRandAugment { magnitude, layers })
    }

    fn none(&self, kind: Kind) -> Result<Kind, DataError> {
        match self.sections.first() {
            None => Ok(kind),
            Some(section) => Err(self.invalid(section, "nothing behind this name")),
        }
    }

    fn whole(&self, section: &str, value: &str, least: usize, most: usize) -> Result<usize, DataError> {
        let number = value.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| self.invalid(section, &format!("an integer of {least} to {most}")))
    }

    fn number(&self, section: &str, value: &str, most: f64) -> Result<f64, DataError> {
        let number = value.parse().ok().filter(|&number: &f64| number.is_finite() && (0.0..=most).contains(&number));
        number.ok_or_else(|| match most {
            f64::INFINITY => self.invalid(section, "a number of at least 0"),
            _ => self.invalid(section, &format!("a number of 0 to {most}")),
        })
    }

    fn invalid(&self, section: &str, expected: &str) -> DataError {
        DataError::invalid(format!("aa {:?}", self.text), expected, format!("{section:?}"))
    }
}

/// The letters and the rest of a section.
fn key(section: &str) -> (&str, &str) {
    section.split_at(section.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(section.len()))
}

fn normal(deviation: f64) -> Noise {
    if deviation == 0.0 { Noise::None } else { Noise::Normal(deviation) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Kind {
        text.parse::<AutoAugment>().unwrap_or_else(|error| panic!("{error}")).0
    }

    #[test]
    fn timms_strings_are_understood() {
        let Kind::RandAugment(rand) = parse("rand-m7-n3-p0.4-mstd0.5-mmax15-inc1") else { panic!("RandAugment") };
        assert_eq!((rand.magnitude, rand.layers, rand.probability, rand.ops), (7.0, 3, 0.4, OpSet::Increasing));
        assert_eq!(rand.application, Application { noise: Noise::Normal(0.5), most: 15.0, reach: 0.45 });
        // "rand": magnitude 10, two layers with probability 0.5, no noise.
        let Kind::RandAugment(rand) = parse("rand") else { panic!("RandAugment") };
        assert_eq!((rand.magnitude, rand.layers, rand.probability, rand.ops), (10.0, 2, 0.5, OpSet::Plain));
        let Kind::RandAugment(rand) = parse("rand-mstd101-tweights") else { panic!("RandAugment") };
        assert_eq!((rand.application.noise, rand.ops), (Noise::Uniform, OpSet::Weighted));
        let Kind::AugMix(mix) = parse("augmix-m5-w4-d2-b1-a0.5-mstd1") else { panic!("AugMix") };
        assert_eq!((mix.magnitude, mix.width, mix.depth, mix.alpha, mix.blended), (5.0, 4, Some(2), 0.5, true));
        assert_eq!(mix.application, Application { noise: Noise::Normal(1.0), most: 10.0, reach: 0.3 });
        let Kind::AugMix(mix) = parse("augmix-d-1-w2") else { panic!("AugMix") };
        assert_eq!((mix.depth, mix.width, mix.application.noise), (None, 2, Noise::Uniform));
        assert_eq!(parse("v0r-mstd0.5"), Kind::Policy { policy: Policy::V0Increasing, noise: Noise::Normal(0.5) });
        assert_eq!(parse("ra"), Kind::TorchRandAugment { magnitude: 9, layers: 2 });
    }

    #[test]
    fn an_unknown_text_names_the_forms_and_a_wrong_section_is_named() {
        let message = |text: &str| text.parse::<AutoAugment>().unwrap_err().to_string();
        assert!(message("randaugment").starts_with("aa: expected rand-m9-mstd0.5-inc1 and its like, "));
        assert_eq!(message("rand-m9-w0"), "aa \"rand-m9-w0\": expected tweights for weighted operations, got \"w0\"");
        assert_eq!(message("rand-m9.5"), "aa \"rand-m9.5\": expected an integer of 0 to 1000, got \"m9.5\"");
        for text in [
            "",
            "rand-",
            "rand-m",
            "rand-p2",
            "rand-mstdnan",
            "augmix-w0",
            "augmix-a0",
            "v0-m9",
            "ta_wide-m9",
            "ra-m31",
            "rand-t3aw-n15",
        ] {
            assert!(message(text).contains("expected"), "{text}");
        }
    }
}
