//! The configuration of a network: the fields of its family, and those of every network.

use crate::{
    CifarResNeXt, CifarResNet, ConvNeXt, DenseNet, GoogLeNet, LectureResNet, NasBench201, Plain, PreActResNet, ResNet,
    ResNetV2, Vgg, WideResNet, ZooError,
};
use residual_graph::{Builder, Graph, GraphError, NodeId};

/// Networks with more trainable values are refused: their tensors would take over 16 GB.
const MAX_PARAMETERS: usize = 1 << 32;

/// The complete configuration of a network.
///
/// ```
/// use residual_zoo::{Config, ResNet, Stem};
///
/// let small = ResNet { stem: Stem::Small, depths: [1; 4], ..ResNet::resnet50() };
/// let config = Config { image_size: [32, 32], num_classes: 10, ..Config::new("resnet14", small) };
/// assert_eq!(config.graph().unwrap().output_channels(), Ok(10));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The name of the graph.
    pub name: String,
    /// Channels of the image.
    pub in_chans: usize,
    /// Height and width in pixels of the image that the network is designed for.
    pub image_size: [usize; 2],
    /// Number of outputs. With 0 there is no head: the output is the input of the last linear layer.
    pub num_classes: usize,
    /// The family, with its fields.
    pub family: Family,
}

/// A family of networks with the fields of one network.
#[derive(Clone, Debug, PartialEq)]
pub enum Family {
    /// ResNets for photographs: also ResNet-D, SE-ResNet, ResNeXt and torchvision's wide ResNets.
    ResNet(ResNet),
    /// ResNets for 32×32 images.
    CifarResNet(CifarResNet),
    /// Pre-activation ResNets for small images.
    PreActResNet(PreActResNet),
    /// Pre-activation ResNets for photographs, as in timm.
    ResNetV2(ResNetV2),
    /// Wide ResNets for 32×32 images.
    WideResNet(WideResNet),
    /// ResNeXts for 32×32 images.
    CifarResNeXt(CifarResNeXt),
    /// ConvNeXt.
    ConvNeXt(ConvNeXt),
    /// ResNets without their shortcuts.
    Plain(Plain),
    /// VGG.
    Vgg(Vgg),
    /// DenseNet.
    DenseNet(DenseNet),
    /// GoogLeNet.
    GoogLeNet(GoogLeNet),
    /// The ResNet-50 of the lecture notes.
    LectureResNet(LectureResNet),
    /// The networks of NAS-Bench-201.
    NasBench201(NasBench201),
}

/// The interface of a family.
pub(crate) trait Architecture {
    /// Validates every field.
    fn validate(&self) -> Result<(), ZooError>;

    /// Appends the network to a builder that holds its input. With `num_classes` 0 without its last linear layer.
    fn layers(&self, net: &mut Builder, num_classes: usize) -> Result<NodeId, GraphError>;

    /// The default image size: height and width.
    fn image_size(&self) -> [usize; 2];
}

macro_rules! families {
    ($($family:ident),*) => {
        impl Family {
            fn architecture(&self) -> &dyn Architecture {
                match self {
                    $(Self::$family(config) => config),*
                }
            }

            /// The names of the variants, and which of them this is.
            #[cfg(test)]
            pub(crate) const VARIANTS: &[&str] = &[$(stringify!($family)),*];

            #[cfg(test)]
            pub(crate) fn variant(&self) -> &'static str {
                match self {
                    $(Self::$family(_) => stringify!($family)),*
                }
            }
        }

        $(impl From<$family> for Family {
            fn from(config: $family) -> Self {
                Self::$family(config)
            }
        })*
    };
}

families!(
    ResNet,
    CifarResNet,
    PreActResNet,
    ResNetV2,
    WideResNet,
    CifarResNeXt,
    ConvNeXt,
    Plain,
    Vgg,
    DenseNet,
    GoogLeNet,
    LectureResNet,
    NasBench201
);

impl Config {
    /// A network called `name` for colour images of the family's default size, with the default number of outputs:
    /// 1000 for photographs, 10 for images under 64 pixels.
    pub fn new(name: &str, family: impl Into<Family>) -> Self {
        let family = family.into();
        let image_size = family.architecture().image_size();
        let num_classes = if image_size[0].min(image_size[1]) < 64 { 10 } else { 1000 };
        Self { name: name.into(), in_chans: 3, image_size, num_classes, family }
    }

    /// The network.
    ///
    /// # Errors
    /// The first field that is out of range, or incompatible values.
    pub fn graph(&self) -> Result<Graph, ZooError> {
        self.validate()?;
        let [height, width] = self.image_size;
        let mut net = Builder::new(&self.name, [self.in_chans, height, width]);
        let output = self.family.architecture().layers(&mut net, self.num_classes)?;
        let graph = net.finish(output)?;
        let parameters = graph.parameter_count();
        if parameters > MAX_PARAMETERS {
            return Err(ZooError::field("parameters", format!("at most {MAX_PARAMETERS}"), parameters));
        }
        Ok(graph)
    }

    pub(crate) fn validate(&self) -> Result<(), ZooError> {
        if self.name.is_empty() || self.name.len() > 256 || self.name.chars().any(char::is_control) {
            return Err(ZooError::field(
                "name",
                "1 to 256 bytes without control characters",
                format!("{:?}", self.name),
            ));
        }
        number("in_chans", self.in_chans, 1, 4096)?;
        numbers("image_size", &self.image_size, 1, 1 << 14)?;
        number("num_classes", self.num_classes, 0, 1 << 20)?;
        self.family.architecture().validate()
    }
}

/// Validates a number.
pub(crate) fn number(field: &str, value: usize, least: usize, most: usize) -> Result<(), ZooError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(ZooError::field(field, format!("{least} to {most}"), value))
    }
}

/// Validates each number of a list.
pub(crate) fn numbers(field: &str, values: &[usize], least: usize, most: usize) -> Result<(), ZooError> {
    if values.iter().all(|value| (least..=most).contains(value)) {
        return Ok(());
    }
    Err(ZooError::field(field, format!("{} numbers of {least} to {most}", values.len()), format!("{values:?}")))
}

/// Blocks in each stage.
pub(crate) fn depths(values: &[usize]) -> Result<(), ZooError> {
    numbers("depths", values, 1, 1024)
}

/// Channels in each stage.
pub(crate) fn widths(values: &[usize]) -> Result<(), ZooError> {
    numbers("widths", values, 1, 1 << 16)
}

/// Blocks and channels in each of one to six stages.
pub(crate) fn stages(blocks: &[usize], channels: &[usize]) -> Result<(), ZooError> {
    if !(1..=6).contains(&blocks.len()) {
        return Err(ZooError::field("depths", "1 to 6 numbers", blocks.len()));
    }
    depths(blocks)?;
    if channels.len() != blocks.len() {
        return Err(ZooError::field("widths", format!("{} numbers, as in depths", blocks.len()), channels.len()));
    }
    widths(channels)
}

/// A probability below 1.
pub(crate) fn rate(field: &str, value: f32) -> Result<(), ZooError> {
    if (0.0..1.0).contains(&value) { Ok(()) } else { Err(ZooError::field(field, "0 to below 1", value)) }
}
