//! Pre-activation ResNet for photographs, as timm's `resnetv2_*` with batch norms (He et al., arXiv:1603.05027).

use crate::ZooError;
use crate::config::{Architecture, depths, number, rate, widths};
use crate::layers::{StochasticDepth, dropout};
use residual_graph::{Builder, Conv2d, GraphError, NodeId, Pool2d};
use serde::{Deserialize, Serialize};

/// A pre-activation bottleneck ResNet with timm's module paths: `stem.conv`, `stages.N.blocks.M.normK` and `convK`, `norm`,
/// and the head `head.fc`, a 1×1 convolution.
///
/// timm's state dict has a block's `downsample.conv` before its `norm1`, which is computed first and comes first here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetV2 {
    /// Blocks in each stage.
    pub depths: [usize; 4],
    /// Channels at the end of each stage's blocks; there are a quarter as many inside.
    pub widths: [usize; 4],
    /// Output channels of the stem.
    pub stem_width: usize,
    /// Rate of dropout before the head.
    pub dropout: f32,
    /// Rate of stochastic depth in the last block.
    pub drop_path: f32,
}

impl ResNetV2 {
    /// The network of `depths`, with timm's widths.
    pub fn new(depths: [usize; 4]) -> Self {
        Self { depths, widths: [256, 512, 1024, 2048], stem_width: 64, dropout: 0.0, drop_path: 0.0 }
    }
}

/// A quarter, rounded to a multiple of 8 that is not less than nine tenths of it (timm's `make_divisible`).
fn bottleneck(width: usize) -> usize {
    let quarter = width as f64 / 4.0;
    let rounded = ((quarter + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * quarter { rounded + 8 } else { rounded }
}

fn norm_relu(net: &mut Builder, path: &str, x: NodeId) -> Result<NodeId, GraphError> {
    let x = net.batch_norm(path, x)?;
    net.relu(format!("{path}.act"), x)
}

fn residual_block(
    net: &mut Builder,
    path: &str,
    x: NodeId,
    width: usize,
    stride: usize,
    downsamples: bool,
    depth: &mut StochasticDepth,
) -> Result<NodeId, GraphError> {
    let (in_channels, inside) = (net.shape(x).channels, bottleneck(width));
    let mut y = norm_relu(net, &format!("{path}.norm1"), x)?;
    let shortcut = match downsamples {
        true => net.conv(format!("{path}.downsample.conv"), y, Conv2d::new(in_channels, width, 1).stride(stride))?,
        false => x,
    };
    y = net.conv(format!("{path}.conv1"), y, Conv2d::new(in_channels, inside, 1))?;
    y = norm_relu(net, &format!("{path}.norm2"), y)?;
    y = net.conv(format!("{path}.conv2"), y, Conv2d::new(inside, inside, 3).padding(1).stride(stride))?;
    y = norm_relu(net, &format!("{path}.norm3"), y)?;
    y = net.conv(format!("{path}.conv3"), y, Conv2d::new(inside, width, 1))?;
    y = depth.drop_path(net, format!("{path}.drop_path"), y)?;
    net.add(format!("{path}.add"), y, shortcut)
}

impl Architecture for ResNetV2 {
    fn validate(&self) -> Result<(), ZooError> {
        depths(&self.depths)?;
        widths(&self.widths)?;
        number("stem_width", self.stem_width, 1, 1 << 16)?;
        rate("dropout", self.dropout)?;
        rate("drop_path", self.drop_path)
    }

    fn layers(&self, net: &mut Builder, num_classes: usize) -> Result<NodeId, GraphError> {
        let in_channels = net.shape(net.input()).channels;
        let conv = Conv2d::new(in_channels, self.stem_width, 7).stride(2).padding(3);
        let x = net.conv("stem.conv", net.input(), conv)?;
        let mut x = net.max_pool("stem.pool", x, Pool2d::new(3, 2, 1))?;
        let mut depth = StochasticDepth::new(self.drop_path, &self.depths);
        for (stage, (&blocks, &width)) in self.depths.iter().zip(&self.widths).enumerate() {
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let path = format!("stages.{stage}.blocks.{block}");
                x = residual_block(net, &path, x, width, stride, block == 0, &mut depth)?;
            }
        }
        let x = norm_relu(net, "norm", x)?;
        let x = net.global_avg_pool("head.global_pool", x)?;
        if num_classes == 0 {
            return net.flatten("head.flatten", x);
        }
        let x = dropout(net, "head.drop", x, self.dropout)?;
        let channels = net.shape(x).channels;
        let x = net.conv("head.fc", x, Conv2d::new(channels, num_classes, 1).bias())?;
        net.flatten("head.flatten", x)
    }

    fn image_size(&self) -> [usize; 2] {
        [224; 2]
    }
}
