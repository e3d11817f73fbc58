//! Wide ResNet (Zagoruyko & Komodakis, arXiv:1605.07146): few layers of many channels, pre-activation, with dropout
//! between the convolutions of a block. torchvision's wide ResNets for photographs are bottleneck ResNets of another
//! base width.

use crate::config::{Architecture, number, rate};
use crate::layers::Block;
use crate::{PreActResNet, ResNet, ZooError};
use residual_graph::{Builder, GraphError, NodeId};
use serde::{Deserialize, Serialize};

/// The paper's `WRN-depth-width` for 32×32 images, with [`PreActResNet`]'s module paths. The stride is on a block's first
/// convolution, and a shortcut that changes the shape reads the output of the first batch norm and ReLU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WideResNet {
    /// Layers in all: 6n + 4.
    pub depth: usize,
    /// Width multiplier of 16, 32 and 64 channels.
    pub width: usize,
    /// Rate of dropout between the convolutions of every block.
    pub dropout: f32,
}

impl WideResNet {
    /// `WRN-depth-width` with the dropout of 0.3 that the paper uses on CIFAR.
    pub fn new(depth: usize, width: usize) -> Self {
        Self { depth, width, dropout: 0.3 }
    }
}

impl Architecture for WideResNet {
    fn validate(&self) -> Result<(), ZooError> {
        if !(10..=4096).contains(&self.depth) || self.depth % 6 != 4 {
            return Err(ZooError::field("depth", "10 to 4096, being 6n + 4", self.depth));
        }
        number("width", self.width, 1, 1024)?;
        rate("dropout", self.dropout)
    }

    fn layers(&self, net: &mut Builder, num_classes: usize) -> Result<NodeId, GraphError> {
        PreActResNet {
            widths: [16, 32, 64].map(|width| width * self.width).to_vec(),
            dropout: self.dropout,
            ..PreActResNet::cifar(Block::Basic, (self.depth - 4) / 6)
        }
        .layers(net, num_classes)
    }

    fn image_size(&self) -> [usize; 2] {
        [32; 2]
    }
}

impl ResNet {
    /// torchvision's `wide_resnetN_2`: twice the channels in the 3×3 convolution of a bottleneck.
    pub fn wide(depths: [usize; 4]) -> Self {
        Self { base_width: 128, ..Self::new(Block::Bottleneck, depths) }
    }
}
