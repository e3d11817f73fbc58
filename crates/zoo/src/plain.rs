//! Plain networks (He et al., arXiv:1512.03385, sections 3.3 and 4): ResNets of basic blocks without the shortcuts, for
//! comparison.

use crate::ZooError;
use crate::config::{Architecture, stages};
use crate::layers::{Block, conv_norms, head, small_stem};
use residual_graph::{Builder, Conv2d, GraphError, NodeId, Pool2d};
use serde::{Deserialize, Serialize};

/// A plain network, with the module paths of the ResNet that it is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    /// Pairs of convolutions in each stage; every stage but the first halves the feature map.
    pub depths: Vec<usize>,
    /// Channels of each stage; the stem has as many as the first.
    pub widths: Vec<usize>,
    /// Whether the stem is a 3×3 convolution of stride 1 instead of a 7×7 of stride 2 and a max pooling.
    pub small_images: bool,
}

impl Plain {
    /// The paper's network for CIFAR, of `6 × blocks + 2` layers.
    pub fn cifar(blocks: usize) -> Self {
        Self { depths: vec![blocks; 3], widths: vec![16, 32, 64], small_images: true }
    }

    /// The paper's network for ImageNet.
    pub fn imagenet(depths: [usize; 4]) -> Self {
        Self { depths: depths.to_vec(), widths: vec![64, 128, 256, 512], small_images: false }
    }
}

impl Architecture for Plain {
    fn validate(&self) -> Result<(), ZooError> {
        stages(&self.depths, &self.widths)
    }

    fn layers(&self, net: &mut Builder, num_classes: usize) -> Result<NodeId, GraphError> {
        let mut x = if self.small_images {
            small_stem(net, self.widths[0])?
        } else {
            let in_channels = net.shape(net.input()).channels;
            let conv = Conv2d::new(in_channels, self.widths[0], 7).stride(2).padding(3);
            let x = net.conv("conv1", net.input(), conv)?;
            let x = net.batch_norm("bn1", x)?;
            let x = net.relu("relu", x)?;
            net.max_pool("maxpool", x, Pool2d::new(3, 2, 1))?
        };
        for (stage, (&blocks, &width)) in self.depths.iter().zip(&self.widths).enumerate() {
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let path = format!("layer{}.{block}", stage + 1);
                let convs = Block::Basic.convs(net.shape(x).channels, width, stride);
                x = conv_norms(net, &path, x, &convs)?;
                x = net.relu(format!("{path}.relu2"), x)?;
            }
        }
        head(net, x, num_classes, 0.0)
    }

    fn image_size(&self) -> [usize; 2] {
        if self.small_images { [32; 2] } else { [224; 2] }
    }
}
