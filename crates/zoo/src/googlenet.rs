//! GoogLeNet (Szegedy et al., arXiv:1409.4842) with batch norms, as torchvision builds it.

use crate::ZooError;
use crate::config::{Architecture, rate};
use crate::layers::head;
use residual_graph::{Builder, Conv2d, GraphError, NodeId, Op, Pool2d};
use serde::{Deserialize, Serialize};

/// A GoogLeNet (Inception v1) with torchvision's module paths, without the auxiliary classifiers of the paper's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoogLeNet {
    /// Rate of dropout before the last layer.
    pub dropout: f32,
}

/// An inception module: its name, and the widths of its convolutions: 1×1; 1×1 and 3×3; 1×1 and 3×3 (the paper's 5×5);
/// 1×1 after the pooling.
type Inception = (&'static str, [usize; 6]);

const STAGE_3: [Inception; 2] =
    [("inception3a", [64, 96, 128, 16, 32, 32]), ("inception3b", [128, 128, 192, 32, 96, 64])];
const STAGE_4: [Inception; 5] = [
    ("inception4a", [192, 96, 208, 16, 48, 64]),
    ("inception4b", [160, 112, 224, 24, 64, 64]),
    ("inception4c", [128, 128, 256, 24, 64, 64]),
    ("inception4d", [112, 144, 288, 32, 64, 64]),
    ("inception4e", [256, 160, 320, 32, 128, 128]),
];
const STAGE_5: [Inception; 2] =
    [("inception5a", [256, 160, 320, 32, 128, 128]), ("inception5b", [384, 192, 384, 48, 128, 128])];

/// torchvision's `googlenet`.
impl Default for GoogLeNet {
    fn default() -> Self {
        Self { dropout: 0.2 }
    }
}

impl Architecture for GoogLeNet {
    fn validate(&self) -> Result<(), ZooError> {
        rate("dropout", self.dropout)
    }

    fn layers(&self, net: &mut Builder, num_classes: usize) -> Result<NodeId, GraphError> {
        let in_channels = net.shape(net.input()).channels;
        let pool = |kernel| Pool2d::new(kernel, 2, 0).ceil_mode();
        let mut x = conv(net, "conv1", net.input(), Conv2d::new(in_channels, 64, 7).stride(2).padding(3))?;
        x = net.max_pool("maxpool1", x, pool(3))?;
        x = conv(net, "conv2", x, Conv2d::new(64, 64, 1))?;
        x = conv(net, "conv3", x, Conv2d::new(64, 192, 3).padding(1))?;
        x = net.max_pool("maxpool2", x, pool(3))?;
        x = inceptions(net, x, &STAGE_3)?;
        x = net.max_pool("maxpool3", x, pool(3))?;
        x = inceptions(net, x, &STAGE_4)?;
        x = net.max_pool("maxpool4", x, pool(2))?;
        x = inceptions(net, x, &STAGE_5)?;
        head(net, x, num_classes, self.dropout)
    }

    fn image_size(&self) -> [usize; 2] {
        [224; 2]
    }
}

fn inceptions(net: &mut Builder, mut x: NodeId, modules: &[Inception]) -> Result<NodeId, GraphError> {
    for (path, widths) in modules {
        x = inception(net, path, x, *widths)?;
    }
    Ok(x)
}

/// Four branches, side by side.
fn inception(net: &mut Builder, path: &str, x: NodeId, widths: [usize; 6]) -> Result<NodeId, GraphError> {
    let channels = net.shape(x).channels;
    let [one, three_in, three, five_in, five, pooled] = widths;
    let first = conv(net, &format!("{path}.branch1"), x, Conv2d::new(channels, one, 1))?;
    let second = conv(net, &format!("{path}.branch2.0"), x, Conv2d::new(channels, three_in, 1))?;
    let second = conv(net, &format!("{path}.branch2.1"), second, Conv2d::new(three_in, three, 3).padding(1))?;
    let third = conv(net, &format!("{path}.branch3.0"), x, Conv2d::new(channels, five_in, 1))?;
    let third = conv(net, &format!("{path}.branch3.1"), third, Conv2d::new(five_in, five, 3).padding(1))?;
    let fourth = net.max_pool(format!("{path}.branch4.0"), x, Pool2d::new(3, 1, 1).ceil_mode())?;
    let fourth = conv(net, &format!("{path}.branch4.1"), fourth, Conv2d::new(channels, pooled, 1))?;
    net.push(format!("{path}.concat"), Op::Concat, &[first, second, third, fourth])
}

/// Convolution, batch norm with eps 1e-3, ReLU (torchvision's `BasicConv2d`).
fn conv(net: &mut Builder, path: &str, x: NodeId, conv: Conv2d) -> Result<NodeId, GraphError> {
    let x = net.conv(format!("{path}.conv"), x, conv)?;
    let norm = Op::BatchNorm2d { channels: conv.out_channels, eps: 1e-3, momentum: 0.1 };
    let x = net.push(format!("{path}.bn"), norm, &[x])?;
    net.relu(format!("{path}.relu"), x)
}
