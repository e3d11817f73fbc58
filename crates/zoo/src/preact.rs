//! Pre-activation ResNet for small images (He et al., "Identity mappings in deep residual networks", arXiv:1603.05027).

use crate::ZooError;
use crate::config::{Architecture, number, rate, stages};
use crate::layers::{Block, StochasticDepth, dropout, head};
use residual_graph::{Builder, Conv2d, GraphError, NodeId};
use serde::{Deserialize, Serialize};

/// A pre-activation ResNet with a 3×3 stem of stride 1. Module paths: `conv1`, `layerN.M.bnK`, `layerN.M.convK`,
/// `layerN.M.downsample.0`, `bn` for the norm after the last sum, `fc`.
///
/// Where a block changes the shape, its shortcut is a 1×1 convolution of the output of the first batch norm and ReLU;
/// otherwise it is the identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreActResNet {
    /// The block.
    pub block: Block,
    /// Blocks in each stage; every stage but the first halves the feature map.
    pub depths: Vec<usize>,
    /// Channels inside each stage's blocks.
    pub widths: Vec<usize>,
    /// Output channels of the stem.
    pub stem_width: usize,
    /// Rate of dropout before the last convolution of every block.
    pub dropout: f32,
    /// Rate of stochastic depth in the last block.
    pub drop_path: f32,
}

impl PreActResNet {
    /// The network with the four stages of a ResNet for photographs.
    pub fn new(block: Block, depths: [usize; 4]) -> Self {
        Self {
            block,
            depths: depths.to_vec(),
            widths: vec![64, 128, 256, 512],
            stem_width: 64,
            dropout: 0.0,
            drop_path: 0.0,
        }
    }

    /// The paper's network for CIFAR: three stages of 16, 32 and 64 channels.
    pub fn cifar(block: Block, blocks: usize) -> Self {
        Self { depths: vec![blocks; 3], widths: vec![16, 32, 64], stem_width: 16, ..Self::new(block, [1; 4]) }
    }

    fn residual_block(
        &self,
        net: &mut Builder,
        path: &str,
        x: NodeId,
        convs: &[Conv2d],
        stride: usize,
        depth: &mut StochasticDepth,
    ) -> Result<NodeId, GraphError> {
        let mut y = x;
        let mut shortcut = x;
        let out_channels = convs.last().map_or(0, |conv| conv.out_channels);
        let in_channels = net.shape(x).channels;
        for (index, conv) in convs.iter().enumerate() {
            let number = index + 1;
            y = net.batch_norm(format!("{path}.bn{number}"), y)?;
            y = net.relu(format!("{path}.relu{number}"), y)?;
            if index == 0 && (stride != 1 || in_channels != out_channels) {
                shortcut = y;
            }
            if number == convs.len() {
                y = dropout(net, format!("{path}.dropout"), y, self.dropout)?;
            }
            y = net.conv(format!("{path}.conv{number}"), y, *conv)?;
        }
        y = depth.drop_path(net, format!("{path}.drop_path"), y)?;
        if shortcut != x {
            let conv = Conv2d::new(in_channels, out_channels, 1).stride(stride);
            shortcut = net.conv(format!("{path}.downsample.0"), shortcut, conv)?;
        }
        net.add(format!("{path}.add"), y, shortcut)
    }
}

impl Architecture for PreActResNet {
    fn validate(&self) -> Result<(), ZooError> {
        stages(&self.depths, &self.widths)?;
        number("stem_width", self.stem_width, 1, 1 << 16)?;
        rate("dropout", self.dropout)?;
        rate("drop_path", self.drop_path)
    }

    fn layers(&self, net: &mut Builder, num_classes: usize) -> Result<NodeId, GraphError> {
        let in_channels = net.shape(net.input()).channels;
        let mut x = net.conv("conv1", net.input(), Conv2d::new(in_channels, self.stem_width, 3).padding(1))?;
        let mut depth = StochasticDepth::new(self.drop_path, &self.depths);
        for (stage, (&blocks, &width)) in self.depths.iter().zip(&self.widths).enumerate() {
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let convs = self.block.convs(net.shape(x).channels, width, stride);
                let path = format!("layer{}.{block}", stage + 1);
                x = self.residual_block(net, &path, x, &convs, stride, &mut depth)?;
            }
        }
        let x = net.batch_norm("bn", x)?;
        let x = net.relu("relu", x)?;
        head(net, x, num_classes, 0.0)
    }

    fn image_size(&self) -> [usize; 2] {
        [32; 2]
    }
}
