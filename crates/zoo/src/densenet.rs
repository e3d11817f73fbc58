//! DenseNet-BC (Huang et al., arXiv:1608.06993), as torchvision builds it.

use crate::ZooError;
use crate::config::{Architecture, number, numbers, rate};
use crate::layers::dropout;
use residual_graph::{Builder, Conv2d, GraphError, NodeId, Op, Pool2d};
use serde::{Deserialize, Serialize};

/// A DenseNet with torchvision's module paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenseNet {
    /// Layers in each dense block.
    pub depths: [usize; 4],
    /// Channels added by each layer (growth rate).
    pub growth_rate: usize,
    /// Output channels of the stem.
    pub stem_width: usize,
    /// Channels between a layer's two convolutions, as a multiple of `growth_rate`.
    pub bottleneck: usize,
    /// Rate of dropout after each layer.
    pub dropout: f32,
}

impl DenseNet {
    /// torchvision's `densenet121`.
    pub fn densenet121() -> Self {
        Self { depths: [6, 12, 24, 16], growth_rate: 32, stem_width: 64, bottleneck: 4, dropout: 0.0 }
    }

    /// A layer's new channels.
    fn layer(&self, net: &mut Builder, path: &str, x: NodeId) -> Result<NodeId, GraphError> {
        let (channels, inside) = (net.shape(x).channels, self.bottleneck * self.growth_rate);
        let y = net.batch_norm(format!("{path}.norm1"), x)?;
        let y = net.relu(format!("{path}.relu1"), y)?;
        let y = net.conv(format!("{path}.conv1"), y, Conv2d::new(channels, inside, 1))?;
        let y = net.batch_norm(format!("{path}.norm2"), y)?;
        let y = net.relu(format!("{path}.relu2"), y)?;
        let y = net.conv(format!("{path}.conv2"), y, Conv2d::new(inside, self.growth_rate, 3).padding(1))?;
        dropout(net, format!("{path}.dropout"), y, self.dropout)
    }
}

impl Architecture for DenseNet {
    fn validate(&self) -> Result<(), ZooError> {
        numbers("depths", &self.depths, 1, 256)?;
        number("growth_rate", self.growth_rate, 1, 1024)?;
        number("stem_width", self.stem_width, 1, 1 << 16)?;
        number("bottleneck", self.bottleneck, 1, 64)?;
        rate("dropout", self.dropout)
    }

    fn layers(&self, net: &mut Builder, num_classes: usize) -> Result<NodeId, GraphError> {
        let in_channels = net.shape(net.input()).channels;
        let conv = Conv2d::new(in_channels, self.stem_width, 7).stride(2).padding(3);
        let x = net.conv("features.conv0", net.input(), conv)?;
        let x = net.batch_norm("features.norm0", x)?;
        let x = net.relu("features.relu0", x)?;
        let mut x = net.max_pool("features.pool0", x, Pool2d::new(3, 2, 1))?;
        for (block, &layers) in self.depths.iter().enumerate() {
            for layer in 0..layers {
                let path = format!("features.denseblock{}.denselayer{}", block + 1, layer + 1);
                let new = self.layer(net, &path, x)?;
                x = net.push(format!("{path}.concat"), Op::Concat, &[x, new])?;
            }
            if block + 1 < self.depths.len() {
                let path = format!("features.transition{}", block + 1);
                let channels = net.shape(x).channels;
                x = net.batch_norm(format!("{path}.norm"), x)?;
                x = net.relu(format!("{path}.relu"), x)?;
                x = net.conv(format!("{path}.conv"), x, Conv2d::new(channels, channels / 2, 1))?;
                let pool = Op::AvgPool2d { pool: Pool2d::new(2, 2, 0), count_include_pad: true };
                x = net.push(format!("{path}.pool"), pool, &[x])?;
            }
        }
        let x = net.batch_norm("features.norm5", x)?;
        let x = net.relu("relu", x)?;
        let x = net.global_avg_pool("avgpool", x)?;
        let x = net.flatten("flatten", x)?;
        if num_classes == 0 { Ok(x) } else { net.linear("classifier", x, num_classes, true) }
    }

    fn image_size(&self) -> [usize; 2] {
        [224; 2]
    }
}
