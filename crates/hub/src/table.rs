//! Pretrained weights that are known by name. The tables are written by `write.py`, from torchvision and timm.

use residual_preprocess::{Interpolation, Preprocessing};

const PRETRAINED: &str = include_str!("pretrained.txt");
const IMAGENET: &str = include_str!("imagenet.txt");

/// What comes with the name of pretrained weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Pretrained {
    /// Their full name: `torchvision:resnet50.v2`, `timm:resnet50.a1_in1k`.
    pub name: &'static str,
    /// Their network, as the zoo calls it.
    pub network: &'static str,
    /// What they were evaluated with: the transforms of torchvision's `Weights`, or timm's default configuration. (Where
    /// timm squashes an image into a square, its centre is cropped here: that is so in the `convnext` weights for 384 pixels.)
    pub preprocessing: Preprocessing,
    /// A file of torchvision's or a repository of the hub's.
    pub(crate) place: &'static str,
}

/// Every name that is known, network by network, the most usual first.
pub fn pretrained() -> Vec<Pretrained> {
    PRETRAINED.lines().map(|line| read(line).expect("a line that write.py wrote")).collect()
}

/// Whether `name` is one of them.
pub(crate) fn is_pretrained(name: &str) -> bool {
    PRETRAINED.lines().any(|line| line.split(' ').next() == Some(name))
}

/// The names of ImageNet's 1000 classes, as torchvision has them.
pub fn imagenet_labels() -> Vec<String> {
    IMAGENET.lines().map(str::to_owned).collect()
}

fn read(line: &'static str) -> Option<Pretrained> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let (_, network) = name.split_once(':')?;
    let (network, _) = network.split_once('.')?;
    let place = words.next()?;
    let size = words.next()?.parse().ok()?;
    // The size before the crop, which follows from the share.
    words.next()?;
    let crop_pct = words.next()?.parse().ok()?;
    let interpolation = match words.next()? {
        "bilinear" => Interpolation::Bilinear,
        "bicubic" => Interpolation::Bicubic,
        _ => return None,
    };
    let (mean, std) = match words.next()? {
        "imagenet" => (Preprocessing::IMAGENET_MEAN, Preprocessing::IMAGENET_STD),
        "half" => ([0.5; 3], [0.5; 3]),
        "clip" => ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]),
        _ => return None,
    };
    let preprocessing =
        Preprocessing { size: [size; 2], crop_pct, interpolation, mean: mean.to_vec(), std: std.to_vec() };
    Some(Pretrained { name, network, preprocessing, place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_resizes_as_its_publisher_says() {
        for (line, pretrained) in PRETRAINED.lines().zip(pretrained()) {
            let Preprocessing { size, crop_pct, .. } = pretrained.preprocessing;
            // As the preprocessing does it: from the decimal number that is written down.
            let resize = (size[0] as f64 / crop_pct.to_string().parse::<f64>().unwrap()).floor();
            assert_eq!(line.split(' ').nth(3).unwrap(), resize.to_string(), "{line}");
            assert_eq!(pretrained.preprocessing.validate(), Ok(()), "{line}");
        }
        let of = |name: &str| pretrained().into_iter().find(|entry| entry.name == name).unwrap().preprocessing;
        assert_eq!(of("torchvision:resnet50.v1"), Preprocessing::imagenet());
        assert_eq!((224.0 / of("torchvision:resnet50.v2").crop_pct).floor(), 232.0);
        assert_eq!(of("timm:resnet50.a1_in1k").interpolation, Interpolation::Bicubic);
    }

    #[test]
    fn the_zoo_and_the_table_know_the_same_weights() {
        let zoo: Vec<_> = residual_zoo::entries()
            .into_iter()
            .flat_map(|entry| entry.weights.iter().map(|weights| (*weights, entry.name)).collect::<Vec<_>>())
            .collect();
        let mut zoo: Vec<_> = zoo.iter().map(|(weights, network)| (*weights, *network)).collect();
        let mut table: Vec<_> = pretrained().iter().map(|entry| (entry.name, entry.network)).collect();
        zoo.sort_unstable();
        table.sort_unstable();
        assert_eq!(zoo, table);
    }

    #[test]
    fn the_classes_are_imagenets() {
        let labels = imagenet_labels();
        assert_eq!((labels.len(), &*labels[0], &*labels[999]), (1000, "tench", "toilet tissue"));
    }
}
