//! ResNeXt (Xie et al., arXiv:1611.05431): bottlenecks whose 3×3 convolution has groups. Those for photographs are
//! torchvision's, a bottleneck ResNet with a cardinality; those for CIFAR have three stages.

use crate::config::{Architecture, depths, number};
use crate::layers::{Block, head, post_activation, small_stem};
use crate::{ResNet, ZooError};
use residual_graph::{Builder, Conv2d, GraphError, NodeId};
use serde::{Deserialize, Serialize};

impl ResNet {
    /// torchvision's `resnextN_{cardinality}x{base_width}d`.
    pub fn resnext(depths: [usize; 4], cardinality: usize, base_width: usize) -> Self {
        Self { cardinality, base_width, ..Self::new(Block::Bottleneck, depths) }
    }
}

/// A ResNeXt for 32×32 images (section 5.1): `cardinality × base_width` channels inside a block and `out_width` at its end
/// in the first stage, twice as many in each further stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CifarResNeXt {
    /// Blocks in each stage.
    pub depths: [usize; 3],
    /// Groups of the 3×3 convolutions.
    pub cardinality: usize,
    /// Channels of each group in the first stage.
    pub base_width: usize,
    /// Channels at the end of the blocks of the first stage.
    pub out_width: usize,
    /// Output channels of the stem.
    pub stem_width: usize,
}

impl CifarResNeXt {
    /// The paper's `ResNeXt-29, {cardinality}×{base_width}d`: 3 stages of 3 blocks of 3 convolutions, stem and linear layer.
    pub fn resnext29(cardinality: usize, base_width: usize) -> Self {
        Self { depths: [3; 3], cardinality, base_width, out_width: 256, stem_width: 64 }
    }

    /// The network of the lecture notes, 8×64d: its blocks end in twice as many channels as they have inside.
    pub fn lecture() -> Self {
        Self { out_width: 2 * 8 * 64, ..Self::resnext29(8, 64) }
    }
}

impl Architecture for CifarResNeXt {
    fn validate(&self) -> Result<(), ZooError> {
        depths(&self.depths)?;
        number("cardinality", self.cardinality, 1, 1 << 16)?;
        number("base_width", self.base_width, 1, 1 << 16)?;
        number("out_width", self.out_width, 1, 1 << 16)?;
        number("stem_width", self.stem_width, 1, 1 << 16)
    }

    fn layers(&self, net: &mut Builder, num_classes: usize) -> Result<NodeId, GraphError> {
        let mut x = small_stem(net, self.stem_width)?;
        for (stage, &blocks) in self.depths.iter().enumerate() {
            let width = (self.base_width << stage) * self.cardinality;
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let convs = [
                    Conv2d::new(net.shape(x).channels, width, 1),
                    Conv2d::new(width, width, 3).padding(1).stride(stride).groups(self.cardinality),
                    Conv2d::new(width, self.out_width << stage, 1),
                ];
                x = post_activation(net, &format!("layer{}.{block}", stage + 1), x, &convs, stride)?;
            }
        }
        head(net, x, num_classes, 0.0)
    }

    fn image_size(&self) -> [usize; 2] {
        [32; 2]
    }
}
