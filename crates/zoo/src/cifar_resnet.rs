//! ResNet for 32×32 images (He et al. 2015, section 4.2): three stages of 16, 32 and 64 channels.

use residual_graph::{Builder, Conv2d, Graph, GraphError, NodeId, Op};

/// How the shortcut crosses a change of shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortcut {
    /// Option A: subsampling and zero channels, without parameters.
    Padding,
    /// Option B: a 1×1 convolution with batch norm.
    Projection,
}

/// A CIFAR ResNet of `6 × blocks + 2` layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CifarResNet {
    /// What the graph is called.
    pub name: String,
    /// Blocks in each of the three stages.
    pub blocks: usize,
    /// How the shortcut crosses a change of shape.
    pub shortcut: Shortcut,
    /// Number of outputs.
    pub num_classes: usize,
}

impl CifarResNet {
    /// The network for images of 3×32×32, with module paths `conv1`, `bn1`, `layer1..3`, `fc`.
    ///
    /// # Errors
    /// If a number is out of range, such as zero classes.
    pub fn graph(&self) -> Result<Graph, GraphError> {
        let mut net = Builder::new(&self.name, [3, 32, 32]);
        let x = net.conv("conv1", net.input(), Conv2d::new(3, 16, 3).padding(1))?;
        let x = net.batch_norm("bn1", x)?;
        let mut x = net.relu("relu", x)?;
        for stage in 0..3 {
            for block in 0..self.blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let path = format!("layer{}.{block}", stage + 1);
                x = self.residual_block(&mut net, &path, x, 16 << stage, stride)?;
            }
        }
        let x = net.global_avg_pool("avgpool", x)?;
        let x = net.flatten("flatten", x)?;
        let x = net.linear("fc", x, self.num_classes, true)?;
        net.finish(x)
    }

    fn residual_block(
        &self,
        net: &mut Builder,
        path: &str,
        x: NodeId,
        width: usize,
        stride: usize,
    ) -> Result<NodeId, GraphError> {
        let in_channels = net.shape(x).channels;
        let conv = Conv2d::new(in_channels, width, 3).padding(1).stride(stride);
        let y = net.conv(format!("{path}.conv1"), x, conv)?;
        let y = net.batch_norm(format!("{path}.bn1"), y)?;
        let y = net.relu(format!("{path}.relu1"), y)?;
        let y = net.conv(format!("{path}.conv2"), y, Conv2d::new(width, width, 3).padding(1))?;
        let y = net.batch_norm(format!("{path}.bn2"), y)?;
        let shortcut = match self.shortcut {
            _ if stride == 1 && in_channels == width => x,
            Shortcut::Padding => {
                let op = Op::PadShortcut { in_channels, out_channels: width, stride };
                net.push(format!("{path}.shortcut"), op, &[x])?
            }
            Shortcut::Projection => {
                let conv = Conv2d::new(in_channels, width, 1).stride(stride);
                let shortcut = net.conv(format!("{path}.downsample.0"), x, conv)?;
                net.batch_norm(format!("{path}.downsample.1"), shortcut)?
            }
        };
        let sum = net.add(format!("{path}.add"), y, shortcut)?;
        net.relu(format!("{path}.relu2"), sum)
    }
}
