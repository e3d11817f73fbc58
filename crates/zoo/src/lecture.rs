//! The ResNet-50 of lecture notes on CIFAR-10, reproduced as it was trained there. It differs from the ResNet-50 of the
//! paper:
//!
//! - every convolution has a bias; the stem and the shortcuts have no batch norm;
//! - a ReLU follows the third batch norm of a block, and none follows the sum;
//! - the last block of each of the first three stages has stride 2, on its first 1×1 and on its shortcut;
//! - the shortcut of every block is a 1×1 convolution.

use crate::ZooError;
use crate::config::{Architecture, depths, widths};
use crate::layers::{conv_norms, head};
use residual_graph::{Builder, Conv2d, GraphError, NodeId, Pool2d};
use serde::{Deserialize, Serialize};

/// The lecture notes' ResNet, with torchvision's module paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LectureResNet {
    /// Blocks in each stage.
    pub depths: [usize; 4],
    /// Channels inside each stage's blocks; there are four times as many at their end.
    pub widths: [usize; 4],
}

impl LectureResNet {
    /// The network of the notes.
    pub fn resnet50() -> Self {
        Self { depths: [3, 4, 6, 3], widths: [64, 128, 256, 512] }
    }
}

fn block(net: &mut Builder, path: &str, x: NodeId, width: usize, stride: usize) -> Result<NodeId, GraphError> {
    let in_channels = net.shape(x).channels;
    let convs = [
        Conv2d::new(in_channels, width, 1).stride(stride).bias(),
        Conv2d::new(width, width, 3).padding(1).bias(),
        Conv2d::new(width, 4 * width, 1).bias(),
    ];
    let y = conv_norms(net, path, x, &convs)?;
    let y = net.relu(format!("{path}.relu3"), y)?;
    let conv = Conv2d::new(in_channels, 4 * width, 1).stride(stride).bias();
    let shortcut = net.conv(format!("{path}.downsample.0"), x, conv)?;
    net.add(format!("{path}.add"), y, shortcut)
}

impl Architecture for LectureResNet {
    fn validate(&self) -> Result<(), ZooError> {
        depths(&self.depths)?;
        widths(&self.widths)
    }

    fn layers(&self, net: &mut Builder, num_classes: usize) -> Result<NodeId, GraphError> {
        let in_channels = net.shape(net.input()).channels;
        let conv = Conv2d::new(in_channels, self.widths[0], 7).stride(2).padding(3).bias();
        let x = net.conv("conv1", net.input(), conv)?;
        let x = net.relu("relu", x)?;
        let mut x = net.max_pool("maxpool", x, Pool2d::new(3, 2, 1))?;
        for (stage, (&blocks, &width)) in self.depths.iter().zip(&self.widths).enumerate() {
            for index in 0..blocks {
                let halves = index + 1 == blocks && stage + 1 < self.depths.len();
                let path = format!("layer{}.{index}", stage + 1);
                x = block(net, &path, x, width, if halves { 2 } else { 1 })?;
            }
        }
        head(net, x, num_classes, 0.0)
    }

    fn image_size(&self) -> [usize; 2] {
        [32; 2]
    }
}
