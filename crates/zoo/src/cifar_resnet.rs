//! ResNet for 32×32 images (He et al., arXiv:1512.03385, section 4.2): three stages of 16, 32 and 64 channels.

use crate::ZooError;
use crate::config::{Architecture, depths, number, widths};
use crate::layers::{Block, add_shortcut, conv_norms, head, small_stem, squeeze_excitation};
use residual_graph::{Builder, GraphError, NodeId, Op};
use serde::{Deserialize, Serialize};

/// The shortcut of blocks that change the shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shortcut {
    /// Option A: subsampling and zero channels, without parameters.
    Padding,
    /// Option B: a 1×1 convolution with batch norm.
    Projection,
}

/// A CIFAR ResNet, with module paths `conv1`, `bn1`, `layer1..3`, `fc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CifarResNet {
    /// The block.
    pub block: Block,
    /// Blocks in each stage.
    pub depths: [usize; 3],
    /// Channels inside each stage's blocks; the stem has as many as the first.
    pub widths: [usize; 3],
    /// The shortcut of blocks that change the shape.
    pub shortcut: Shortcut,
    /// Groups of a bottleneck's 3×3 convolution.
    pub cardinality: usize,
    /// Whether blocks end in squeeze-and-excitation with a reduction of 16.
    pub squeeze_excitation: bool,
}

impl CifarResNet {
    /// The paper's network of `6 × blocks + 2` layers.
    pub fn new(blocks: usize, shortcut: Shortcut) -> Self {
        Self {
            block: Block::Basic,
            depths: [blocks; 3],
            widths: [16, 32, 64],
            shortcut,
            cardinality: 1,
            squeeze_excitation: false,
        }
    }

    /// The network of `9 × blocks + 2` layers that pre-activation is compared with (He et al., arXiv:1603.05027).
    pub fn bottleneck(blocks: usize) -> Self {
        Self { block: Block::Bottleneck, ..Self::new(blocks, Shortcut::Projection) }
    }

    fn residual_block(
        &self,
        net: &mut Builder,
        path: &str,
        x: NodeId,
        width: usize,
        stride: usize,
    ) -> Result<NodeId, GraphError> {
        let in_channels = net.shape(x).channels;
        let mut convs = self.block.convs(in_channels, width, stride);
        convs[1].groups = self.cardinality;
        let mut y = conv_norms(net, path, x, &convs)?;
        if self.squeeze_excitation {
            y = squeeze_excitation(net, &format!("{path}.se"), y)?;
        }
        let out_channels = width * self.block.expansion();
        let keeps_shape = stride == 1 && in_channels == out_channels;
        if self.shortcut == Shortcut::Projection || keeps_shape {
            return add_shortcut(net, path, x, y, stride, convs.len());
        }
        let op = Op::PadShortcut { in_channels, out_channels, stride };
        let shortcut = net.push(format!("{path}.shortcut"), op, &[x])?;
        let sum = net.add(format!("{path}.add"), y, shortcut)?;
        net.relu(format!("{path}.relu{}", convs.len()), sum)
    }
}

impl Architecture for CifarResNet {
    fn validate(&self) -> Result<(), ZooError> {
        depths(&self.depths)?;
        widths(&self.widths)?;
        if self.block == Block::Basic && self.cardinality != 1 {
            return Err(ZooError::field("cardinality", "1 with block \"basic\"", self.cardinality));
        }
        number("cardinality", self.cardinality, 1, 1 << 16)
    }

    fn layers(&self, net: &mut Builder, num_classes: usize) -> Result<NodeId, GraphError> {
        let mut x = small_stem(net, self.widths[0])?;
        for (stage, (&blocks, &width)) in self.depths.iter().zip(&self.widths).enumerate() {
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                x = self.residual_block(net, &format!("layer{}.{block}", stage + 1), x, width, stride)?;
            }
        }
        head(net, x, num_classes, 0.0)
    }

    fn image_size(&self) -> [usize; 2] {
        [32; 2]
    }
}
