//! ConvNeXt (Liu et al., arXiv:2201.03545), as torchvision builds it.

use crate::ZooError;
use crate::config::{Architecture, depths, rate, widths};
use crate::layers::StochasticDepth;
use residual_graph::{Builder, Conv2d, GraphError, NodeId, Op};
use serde::{Deserialize, Serialize};

/// A ConvNeXt with torchvision's module paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvNeXt {
    /// Blocks in each stage.
    pub depths: [usize; 4],
    /// Channels of each stage.
    pub widths: [usize; 4],
    /// Rate of stochastic depth in the last block.
    pub drop_path: f32,
}

impl ConvNeXt {
    /// The network of `depths` and `widths`, with torchvision's rate of stochastic depth.
    pub fn new(depths: [usize; 4], widths: [usize; 4], drop_path: f32) -> Self {
        Self { depths, widths, drop_path }
    }

    /// torchvision's `convnext_tiny`.
    pub fn tiny() -> Self {
        Self::new([3, 3, 9, 3], [96, 192, 384, 768], 0.1)
    }
}

/// Added to the variance in layer norms.
const EPS: f32 = 1e-6;

/// A depthwise 7×7 convolution, layer norm, and two linear layers around a GELU at each pixel.
fn block(net: &mut Builder, path: &str, x: NodeId, depth: &mut StochasticDepth) -> Result<NodeId, GraphError> {
    let channels = net.shape(x).channels;
    let conv = Conv2d::new(channels, channels, 7).padding(3).groups(channels).bias();
    let y = net.conv(format!("{path}.block.0"), x, conv)?;
    let y = net.layer_norm(format!("{path}.block.2"), y, EPS)?;
    let y = net.linear(format!("{path}.block.3"), y, 4 * channels, true)?;
    let y = net.push(format!("{path}.block.4"), Op::Gelu, &[y])?;
    let y = net.linear(format!("{path}.block.5"), y, channels, true)?;
    let y = net.push(path, Op::LayerScale { channels }, &[y])?;
    let y = depth.drop_path(net, format!("{path}.stochastic_depth"), y)?;
    net.add(format!("{path}.add"), y, x)
}

impl Architecture for ConvNeXt {
    fn validate(&self) -> Result<(), ZooError> {
        depths(&self.depths)?;
        widths(&self.widths)?;
        rate("drop_path", self.drop_path)
    }

    fn layers(&self, net: &mut Builder, num_classes: usize) -> Result<NodeId, GraphError> {
        let mut depth = StochasticDepth::new(self.drop_path, &self.depths);
        let mut x = net.input();
        for (stage, (&blocks, &width)) in self.depths.iter().zip(&self.widths).enumerate() {
            let path = format!("features.{}", 2 * stage);
            let channels = net.shape(x).channels;
            if stage == 0 {
                x = net.conv(format!("{path}.0"), x, Conv2d::new(channels, width, 4).stride(4).bias())?;
                x = net.layer_norm(format!("{path}.1"), x, EPS)?;
            } else {
                x = net.layer_norm(format!("{path}.0"), x, EPS)?;
                x = net.conv(format!("{path}.1"), x, Conv2d::new(channels, width, 2).stride(2).bias())?;
            }
            for index in 0..blocks {
                x = block(net, &format!("features.{}.{index}", 2 * stage + 1), x, &mut depth)?;
            }
        }
        let x = net.global_avg_pool("avgpool", x)?;
        let x = net.layer_norm("classifier.0", x, EPS)?;
        let x = net.flatten("classifier.1", x)?;
        if num_classes == 0 { Ok(x) } else { net.linear("classifier.2", x, num_classes, true) }
    }

    fn image_size(&self) -> [usize; 2] {
        [224; 2]
    }
}
