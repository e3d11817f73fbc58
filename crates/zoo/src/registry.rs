//! Networks by name.

use crate::{
    Block, Cell, CifarResNeXt, CifarResNet, Config, ConvNeXt, DenseNet, Family, GoogLeNet, LectureResNet, NasBench201,
    Plain, PreActResNet, ResNet, ResNetV2, Shortcut, Vgg, WideResNet, ZooError,
};
use residual_files::nearest;
use residual_graph::Graph;

/// A named network of the zoo.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name, as in `--model`.
    pub name: &'static str,
    /// The name of its family.
    pub family: &'static str,
    /// The paper it comes from, as an arXiv identifier; empty where there is none.
    pub paper: &'static str,
    /// Pretrained weights of exactly this network, as in `--weights`: torchvision's (`torchvision:resnet50.v2`)
    /// and timm's (`timm:resnet50.a1_in1k`), the most common first. The names may no longer be available.
    pub weights: Vec<&'static str>,
    /// What was published of such weights on ImageNet.
    pub accuracies: Vec<Accuracy>,
    /// The network, with as many outputs as the published one.
    pub config: Config,
}

/// A published accuracy on ImageNet's validation images, one central crop each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accuracy {
    /// The name of the weights (`torchvision:resnet50.v2`), or `lecture notes`.
    pub source: &'static str,
    /// Top-1 accuracy in percent.
    pub top1: f64,
    /// Top-5 accuracy in percent.
    pub top5: f64,
}

/// A line for each network with known weights: its name, then theirs. Written by `tests/keys/write.py`.
const WEIGHTS: &str = include_str!("weights.txt");

/// A line for each of torchvision's weights: network, weights, top-1, top-5. Written by `tests/keys/write.py`.
const ACCURACIES: &str = include_str!("accuracies.txt");

/// The table of eight networks in lecture notes on ResNet: top-1 and top-5. They count 44.2 million parameters for
/// ResNeXt-101, which is 32x4d; the accuracy is that of 32x8d.
const LECTURE_NOTES: [(&str, f64, f64); 8] = [
    ("resnet18", 69.8, 89.1),
    ("resnet34", 73.3, 91.4),
    ("resnet50", 76.2, 92.9),
    ("resnet101", 77.4, 93.6),
    ("resnet152", 78.3, 94.1),
    ("wide_resnet50_2", 78.5, 94.1),
    ("resnext50_32x4d", 77.6, 93.7),
    ("resnext101_32x8d", 79.3, 94.5),
];

fn accuracies(name: &str) -> Vec<Accuracy> {
    let torchvisions = ACCURACIES.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let of_this = words.next() == Some(name);
        let source = words.next()?;
        let [top1, top5] = [words.next()?, words.next()?].map(|word| word.parse().expect("a number"));
        of_this.then_some(Accuracy { source, top1, top5 })
    });
    let notes = LECTURE_NOTES.iter().filter(|(network, ..)| *network == name);
    let notes = notes.map(|&(_, top1, top5)| Accuracy { source: "lecture notes", top1, top5 });
    torchvisions.chain(notes).collect()
}

/// Networks of one kind and one paper.
struct Group {
    family: &'static str,
    paper: &'static str,
    entries: Vec<Entry>,
}

impl Group {
    fn new(family: &'static str, paper: &'static str) -> Self {
        Self { family, paper, entries: Vec::new() }
    }

    fn add(mut self, name: &'static str, config: impl Into<Family>) -> Self {
        let listed = WEIGHTS.lines().map(str::split_whitespace).find_map(|mut words| {
            let is_this = words.next() == Some(name);
            is_this.then(|| words.collect())
        });
        let (family, paper) = (self.family, self.paper);
        let weights = listed.unwrap_or_default();
        let (config, accuracies) = (Config::new(name, config), accuracies(name));
        self.entries.push(Entry { name, family, paper, weights, accuracies, config });
        self
    }
}

const BASIC_18: [usize; 4] = [2, 2, 2, 2];
const LAYERS_50: [usize; 4] = [3, 4, 6, 3];
const LAYERS_101: [usize; 4] = [3, 4, 23, 3];
const LAYERS_152: [usize; 4] = [3, 8, 36, 3];

/// Every network of the zoo, family by family.
pub fn entries() -> Vec<Entry> {
    photographs().into_iter().chain(small_images()).chain(baselines()).flat_map(|group| group.entries).collect()
}

fn photographs() -> Vec<Group> {
    use Block::{Basic, Bottleneck};
    let v1 = |depths| ResNet { v1_strides: true, ..ResNet::new(Bottleneck, depths) };
    let seresnet50 = ResNet { squeeze_excitation: true, ..ResNet::resnet50() };
    vec![
        Group::new("ResNet", "1512.03385")
            .add("resnet18", ResNet::new(Basic, BASIC_18))
            .add("resnet34", ResNet::new(Basic, LAYERS_50))
            .add("resnet50", ResNet::resnet50())
            .add("resnet101", ResNet::new(Bottleneck, LAYERS_101))
            .add("resnet152", ResNet::new(Bottleneck, LAYERS_152))
            .add("resnet50_v1", v1(LAYERS_50))
            .add("resnet101_v1", v1(LAYERS_101))
            .add("resnet152_v1", v1(LAYERS_152)),
        Group::new("ResNet-D", "1812.01187")
            .add("resnet18d", ResNet::new(Basic, BASIC_18).d())
            .add("resnet34d", ResNet::new(Basic, LAYERS_50).d())
            .add("resnet50d", ResNet::resnet50().d())
            .add("resnet101d", ResNet::new(Bottleneck, LAYERS_101).d()),
        Group::new("SE-ResNet", "1709.01507").add("seresnet50", seresnet50),
        Group::new("ResNeXt", "1611.05431")
            .add("resnext50_32x4d", ResNet::resnext(LAYERS_50, 32, 4))
            .add("resnext101_32x4d", ResNet::resnext(LAYERS_101, 32, 4))
            .add("resnext101_32x8d", ResNet::resnext(LAYERS_101, 32, 8))
            .add("resnext101_64x4d", ResNet::resnext(LAYERS_101, 64, 4)),
        Group::new("Wide ResNet", "1605.07146")
            .add("wide_resnet50_2", ResNet::wide(LAYERS_50))
            .add("wide_resnet101_2", ResNet::wide(LAYERS_101)),
        Group::new("Pre-activation ResNet", "1603.05027")
            .add("resnetv2_50", ResNetV2::new(LAYERS_50))
            .add("resnetv2_101", ResNetV2::new(LAYERS_101)),
        Group::new("ConvNeXt", "2201.03545")
            .add("convnext_tiny", ConvNeXt::tiny())
            .add("convnext_small", ConvNeXt::new([3, 3, 27, 3], [96, 192, 384, 768], 0.4))
            .add("convnext_base", ConvNeXt::new([3, 3, 27, 3], [128, 256, 512, 1024], 0.5))
            .add("convnext_large", ConvNeXt::new([3, 3, 27, 3], [192, 384, 768, 1536], 0.5)),
    ]
}

fn small_images() -> Vec<Group> {
    use Block::{Basic, Bottleneck};
    use Shortcut::{Padding, Projection};
    let named = |group: Group, name, blocks, shortcut| group.add(name, CifarResNet::new(blocks, shortcut));
    let resnet = [("resnet20", 3), ("resnet32", 5), ("resnet44", 7), ("resnet56", 9), ("resnet110", 18)]
        .into_iter()
        .chain([("resnet1202", 200)])
        .fold(Group::new("ResNet", "1512.03385"), |group, (name, blocks)| named(group, name, blocks, Projection));
    let resnet = [("resnet20_a", 3), ("resnet32_a", 5), ("resnet44_a", 7), ("resnet56_a", 9), ("resnet110_a", 18)]
        .into_iter()
        .chain([("resnet1202_a", 200)])
        .fold(resnet, |group, (name, blocks)| named(group, name, blocks, Padding));
    vec![
        resnet,
        Group::new("ResNet", "1603.05027")
            .add("resnet164", CifarResNet::bottleneck(18))
            .add("resnet1001", CifarResNet::bottleneck(111)),
        Group::new("Pre-activation ResNet", "1603.05027")
            .add("preact_resnet18", PreActResNet::new(Basic, BASIC_18))
            .add("preact_resnet34", PreActResNet::new(Basic, LAYERS_50))
            .add("preact_resnet50", PreActResNet::new(Bottleneck, LAYERS_50))
            .add("preact_resnet101", PreActResNet::new(Bottleneck, LAYERS_101))
            .add("preact_resnet152", PreActResNet::new(Bottleneck, LAYERS_152))
            .add("preact_resnet110", PreActResNet::cifar(Basic, 18))
            .add("preact_resnet164", PreActResNet::cifar(Bottleneck, 18))
            .add("preact_resnet1001", PreActResNet::cifar(Bottleneck, 111)),
        Group::new("Wide ResNet", "1605.07146")
            .add("wrn16_4", WideResNet::new(16, 4))
            .add("wrn16_8", WideResNet::new(16, 8))
            .add("wrn28_10", WideResNet::new(28, 10))
            .add("wrn40_2", WideResNet::new(40, 2))
            .add("wrn40_4", WideResNet::new(40, 4)),
        Group::new("ResNeXt", "1611.05431")
            .add("resnext29_8x64d", CifarResNeXt::resnext29(8, 64))
            .add("resnext29_16x64d", CifarResNeXt::resnext29(16, 64))
            .add("resnext29_32x4d", CifarResNeXt::resnext29(32, 4)),
        Group::new("NAS-Bench-201", "2001.00326").add("nasbench201_resnet", NasBench201::new(Cell::RESNET)),
        Group::new("Networks of lecture notes", "")
            .add("lecture_resnet50", LectureResNet::resnet50())
            .add("lecture_resnext29", CifarResNeXt::lecture()),
    ]
}

fn baselines() -> Vec<Group> {
    vec![
        Group::new("Plain", "1512.03385")
            .add("plain20", Plain::cifar(3))
            .add("plain32", Plain::cifar(5))
            .add("plain44", Plain::cifar(7))
            .add("plain56", Plain::cifar(9))
            .add("plain110", Plain::cifar(18))
            .add("plain18", Plain::imagenet(BASIC_18))
            .add("plain34", Plain::imagenet(LAYERS_50)),
        Group::new("VGG", "1409.1556").add("vgg19", Vgg::vgg19(false)).add("vgg19_bn", Vgg::vgg19(true)),
        Group::new("GoogLeNet", "1409.4842").add("googlenet", GoogLeNet::default()),
        Group::new("DenseNet", "1608.06993").add("densenet121", DenseNet::densenet121()),
    ]
}

/// The network called `name`.
///
/// # Errors
/// [`ZooError::Name`], with the most similar name.
pub fn find(name: &str) -> Result<Entry, ZooError> {
    let mut all = entries();
    match all.iter().position(|entry| entry.name == name) {
        Some(index) => Ok(all.swap_remove(index)),
        None => {
            let nearest = nearest(name, all.iter().map(|entry| entry.name)).map(str::to_owned);
            Err(ZooError::Name { name: name.into(), nearest })
        }
    }
}

/// The graph of the network called `name`, with `num_classes` outputs.
///
/// # Errors
/// If the name is unknown or `num_classes` out of range.
pub fn build(name: &str, num_classes: usize) -> Result<Graph, ZooError> {
    find(name)?.graph(num_classes)
}

impl Entry {
    /// The network with `num_classes` outputs; with 0 without its head (see [`Config::num_classes`]).
    ///
    /// # Errors
    /// If `num_classes` is out of range.
    pub fn graph(&self, num_classes: usize) -> Result<Graph, ZooError> {
        Config { num_classes, ..self.config.clone() }.graph()
    }
}
