//! VGG (Simonyan & Zisserman, arXiv:1409.1556), as torchvision builds it.

use crate::ZooError;
use crate::config::{Architecture, number, numbers, rate, widths};
use crate::layers::dropout;
use residual_graph::{Builder, Conv2d, GraphError, NodeId, Op, Pool2d};
use serde::{Deserialize, Serialize};

/// A VGG with torchvision's module paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vgg {
    /// 3×3 convolutions in each stage; every stage ends in a max pooling.
    pub depths: [usize; 5],
    /// Channels of each stage.
    pub widths: [usize; 5],
    /// Length of the vectors between the linear layers.
    pub hidden: usize,
    /// Whether a batch norm follows each convolution.
    pub batch_norm: bool,
    /// Rate of dropout after each hidden linear layer.
    pub dropout: f32,
}

/// Height and width to which the last feature map is pooled.
const POOLED: [usize; 2] = [7; 2];

impl Vgg {
    /// VGG-19 (the paper's configuration E), with or without batch norms.
    pub fn vgg19(batch_norm: bool) -> Self {
        Self { depths: [2, 2, 4, 4, 4], widths: [64, 128, 256, 512, 512], hidden: 4096, batch_norm, dropout: 0.5 }
    }
}

impl Architecture for Vgg {
    fn validate(&self) -> Result<(), ZooError> {
        numbers("depths", &self.depths, 1, 256)?;
        widths(&self.widths)?;
        number("hidden", self.hidden, 1, 1 << 16)?;
        rate("dropout", self.dropout)
    }

    fn layers(&self, net: &mut Builder, num_classes: usize) -> Result<NodeId, GraphError> {
        let mut x = net.input();
        // The place in torchvision's `features`.
        let mut place = 0..;
        let mut name = move || format!("features.{}", place.next().unwrap_or_default());
        for (&convs, &width) in self.depths.iter().zip(&self.widths) {
            for _ in 0..convs {
                let conv = Conv2d::new(net.shape(x).channels, width, 3).padding(1).bias();
                x = net.conv(name(), x, conv)?;
                if self.batch_norm {
                    x = net.batch_norm(name(), x)?;
                }
                x = net.relu(name(), x)?;
            }
            x = net.max_pool(name(), x, Pool2d::new(2, 2, 0))?;
        }
        x = net.push("avgpool", Op::AdaptiveAvgPool2d { output: POOLED }, &[x])?;
        x = net.flatten("flatten", x)?;
        for index in [0, 3] {
            x = net.linear(format!("classifier.{index}"), x, self.hidden, true)?;
            x = net.relu(format!("classifier.{}", index + 1), x)?;
            x = dropout(net, format!("classifier.{}", index + 2), x, self.dropout)?;
        }
        if num_classes == 0 { Ok(x) } else { net.linear("classifier.6", x, num_classes, true) }
    }

    fn image_size(&self) -> [usize; 2] {
        [224; 2]
    }
}
