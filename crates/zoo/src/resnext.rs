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

/// A ResNeXt for 32×32 images with the block of the lecture notes: `cardinality × base_width` channels inside, twice as
/// many at its end, and `base_width` doubling from stage to stage. (The paper's CIFAR nets end their blocks in four times
/// 64 channels instead, whatever the cardinality.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CifarResNeXt {
    /// Blocks in each stage.
    pub depths: [usize; 3],
    /// Groups of the 3×3 convolutions.
    pub cardinality: usize,
    /// Channels of each group in the first stage.
    pub base_width: usize,
    /// Output channels of the stem.
    pub stem_width: usize,
}

impl CifarResNeXt {
    /// `resnext29_{cardinality}x{base_width}d`: 3 stages of 3 blocks of 3 convolutions, stem and linear layer.
    pub fn resnext29(cardinality: usize, base_width: usize) -> Self {
        Self { depths: [3; 3], cardinality, base_width, stem_width: 64 }
    }
}

/// Channels at the end of a block over channels inside it.
const EXPANSION: usize = 2;

impl Architecture for CifarResNeXt {
    fn validate(&self) -> Result<(), ZooError> {
        depths(&self.depths)?;
        number("cardinality", self.cardinality, 1, 1 << 16)?;
        number("base_width", self.base_width, 1, 1 << 16)?;
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
                    Conv2d::new(width, EXPANSION * width, 1),
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
