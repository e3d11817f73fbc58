//! ResNet for photographs (He et al., arXiv:1512.03385), as torchvision and timm build it, with the options for
//! ResNet-D (He et al., arXiv:1812.01187), SE-ResNet (Hu et al., arXiv:1709.01507), ResNeXt (Xie et al.,
//! arXiv:1611.05431) and wide ResNet (Zagoruyko & Komodakis, arXiv:1605.07146).

use crate::ZooError;
use crate::config::{Architecture, depths, number, rate, widths};
use crate::layers::{Block, StochasticDepth, head, small_stem, squeeze_excitation};
use residual_graph::{Builder, Conv2d, GraphError, NodeId, Op, Pool2d};
use serde::{Deserialize, Serialize};

/// The stem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// A 7×7 convolution of stride 2 and a max pooling.
    Standard,
    /// Three 3×3 convolutions, the first of stride 2, and a max pooling (ResNet-C and -D).
    Deep,
    /// A 3×3 convolution of stride 1 for small images, without pooling.
    Small,
}

/// A ResNet with four stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNet {
    /// The block.
    pub block: Block,
    /// Blocks in each stage.
    pub depths: [usize; 4],
    /// Channels inside each stage's blocks, before `cardinality` and `base_width` are applied (torch's `planes`).
    pub widths: [usize; 4],
    /// The stem.
    pub stem: Stem,
    /// Output channels of the stem.
    pub stem_width: usize,
    /// Groups of a bottleneck's 3×3 convolution.
    pub cardinality: usize,
    /// Channels of each group where `widths` is 64.
    pub base_width: usize,
    /// Whether bottlenecks stride on the first 1×1 (the paper, "v1") instead of on the 3×3 (torchvision, "v1.5").
    pub v1_strides: bool,
    /// Whether shortcuts pool before their convolution instead of striding in it (ResNet-D).
    pub avg_shortcut: bool,
    /// Whether blocks end in squeeze-and-excitation with a reduction of 16 (timm's `SEModule`).
    pub squeeze_excitation: bool,
    /// For stages 2 to 4, whether the stride is replaced by a dilation, so that the feature map keeps its size.
    pub replace_stride_with_dilation: [bool; 3],
    /// Rate of dropout before the head.
    pub dropout: f32,
    /// Rate of stochastic depth in the last block.
    pub drop_path: f32,
}

impl ResNet {
    /// The ResNet of `block` and `depths` with torchvision's strides.
    pub fn new(block: Block, depths: [usize; 4]) -> Self {
        Self {
            block,
            depths,
            widths: [64, 128, 256, 512],
            stem: Stem::Standard,
            stem_width: 64,
            cardinality: 1,
            base_width: 64,
            v1_strides: false,
            avg_shortcut: false,
            squeeze_excitation: false,
            replace_stride_with_dilation: [false; 3],
            dropout: 0.0,
            drop_path: 0.0,
        }
    }

    /// torchvision's `resnet50`.
    pub fn resnet50() -> Self {
        Self::new(Block::Bottleneck, [3, 4, 6, 3])
    }

    /// With the changes of ResNet-D: deep stem, average pooling in shortcuts.
    pub fn d(self) -> Self {
        Self { stem: Stem::Deep, avg_shortcut: true, ..self }
    }

    fn stem(&self, net: &mut Builder) -> Result<NodeId, GraphError> {
        let (in_channels, width) = (net.shape(net.input()).channels, self.stem_width);
        let x = match self.stem {
            Stem::Small => return small_stem(net, width),
            Stem::Standard => {
                let conv = Conv2d::new(in_channels, width, 7).stride(2).padding(3);
                net.conv("conv1", net.input(), conv)?
            }
            Stem::Deep => {
                let half = width / 2;
                let conv = |from, to| Conv2d::new(from, to, 3).padding(1);
                let x = net.conv("conv1.0", net.input(), conv(in_channels, half).stride(2))?;
                let x = net.batch_norm("conv1.1", x)?;
                let x = net.relu("conv1.2", x)?;
                let x = net.conv("conv1.3", x, conv(half, half))?;
                let x = net.batch_norm("conv1.4", x)?;
                let x = net.relu("conv1.5", x)?;
                net.conv("conv1.6", x, conv(half, width))?
            }
        };
        let x = net.batch_norm("bn1", x)?;
        let x = net.relu("relu", x)?;
        net.max_pool("maxpool", x, Pool2d::new(3, 2, 1))
    }

    fn convs(&self, in_channels: usize, step: Step) -> Vec<Conv2d> {
        let Step { width, stride, dilation, first_dilation } = step;
        let conv3 = |from, to, dilation| Conv2d::new(from, to, 3).padding(dilation).dilation(dilation);
        match self.block {
            Block::Basic => {
                vec![conv3(in_channels, width, first_dilation).stride(stride), conv3(width, width, dilation)]
            }
            Block::Bottleneck => {
                let inside = width * self.base_width / 64 * self.cardinality;
                let (first, second) = if self.v1_strides { (stride, 1) } else { (1, stride) };
                vec![
                    Conv2d::new(in_channels, inside, 1).stride(first),
                    conv3(inside, inside, first_dilation).stride(second).groups(self.cardinality),
                    Conv2d::new(inside, width * self.block.expansion(), 1),
                ]
            }
        }
    }

    fn residual_block(
        &self,
        net: &mut Builder,
        path: &str,
        x: NodeId,
        step: Step,
        depth: &mut StochasticDepth,
    ) -> Result<NodeId, GraphError> {
        let convs = self.convs(net.shape(x).channels, step);
        let mut y = crate::layers::conv_norms(net, path, x, &convs)?;
        if self.squeeze_excitation {
            y = squeeze_excitation(net, &format!("{path}.se"), y)?;
        }
        y = depth.drop_path(net, format!("{path}.drop_path"), y)?;
        let out_channels = net.shape(y).channels;
        let shortcut = match step.stride != 1 || net.shape(x).channels != out_channels {
            true => self.shortcut(net, &format!("{path}.downsample"), x, out_channels, step.stride)?,
            false => x,
        };
        let sum = net.add(format!("{path}.add"), y, shortcut)?;
        net.relu(format!("{path}.relu{}", convs.len()), sum)
    }

    fn shortcut(
        &self,
        net: &mut Builder,
        path: &str,
        x: NodeId,
        out_channels: usize,
        stride: usize,
    ) -> Result<NodeId, GraphError> {
        let conv = Conv2d::new(net.shape(x).channels, out_channels, 1);
        if !self.avg_shortcut {
            let x = net.conv(format!("{path}.0"), x, conv.stride(stride))?;
            return net.batch_norm(format!("{path}.1"), x);
        }
        let mut x = x;
        if stride != 1 {
            let pool = Pool2d::new(2, stride, 0).ceil_mode();
            x = net.push(format!("{path}.0"), Op::AvgPool2d { pool, count_include_pad: false }, &[x])?;
        }
        let x = net.conv(format!("{path}.1"), x, conv)?;
        net.batch_norm(format!("{path}.2"), x)
    }
}

/// The numbers of one block.
#[derive(Clone, Copy)]
struct Step {
    width: usize,
    stride: usize,
    dilation: usize,
    /// The dilation of the convolution that would have the stride.
    first_dilation: usize,
}

impl Architecture for ResNet {
    fn validate(&self) -> Result<(), ZooError> {
        depths(&self.depths)?;
        widths(&self.widths)?;
        number("stem_width", self.stem_width, 2, 1 << 16)?;
        number("cardinality", self.cardinality, 1, 1 << 16)?;
        number("base_width", self.base_width, 1, 1 << 16)?;
        if self.block == Block::Basic {
            let only = |field, value, usual| match value == usual {
                true => Ok(()),
                false => Err(ZooError::field(field, format!("{usual} with block \"basic\""), value)),
            };
            only("cardinality", self.cardinality, 1)?;
            only("base_width", self.base_width, 64)?;
            if self.v1_strides {
                return Err(ZooError::field("v1_strides", "false with block \"basic\"", true));
            }
        }
        if self.avg_shortcut && self.replace_stride_with_dilation != [false; 3] {
            let got = format!("{:?}", self.replace_stride_with_dilation);
            return Err(ZooError::field("replace_stride_with_dilation", "none with avg_shortcut", got));
        }
        rate("dropout", self.dropout)?;
        rate("drop_path", self.drop_path)
    }

    fn layers(&self, net: &mut Builder, num_classes: usize) -> Result<NodeId, GraphError> {
        let mut x = self.stem(net)?;
        let mut depth = StochasticDepth::new(self.drop_path, &self.depths);
        let mut dilation = 1;
        for (stage, (&blocks, &width)) in self.depths.iter().zip(&self.widths).enumerate() {
            let mut stride = if stage > 0 { 2 } else { 1 };
            let mut first_dilation = dilation;
            if stage > 0 && self.replace_stride_with_dilation[stage - 1] {
                dilation *= stride;
                stride = 1;
            }
            for block in 0..blocks {
                let path = format!("layer{}.{block}", stage + 1);
                let step = Step { width, stride, dilation, first_dilation };
                x = self.residual_block(net, &path, x, step, &mut depth)?;
                (stride, first_dilation) = (1, dilation);
            }
        }
        head(net, x, num_classes, self.dropout)
    }

    fn image_size(&self) -> [usize; 2] {
        if self.stem == Stem::Small { [32; 2] } else { [224; 2] }
    }
}
