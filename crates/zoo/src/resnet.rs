//! ResNet for ImageNet (He et al., "Deep residual learning for image recognition", 2015), as torchvision builds it.

use residual_graph::{Builder, Conv2d, Graph, GraphError, NodeId, Pool2d};

/// The residual function of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Two 3×3 convolutions (torchvision's `BasicBlock`).
    Basic,
    /// 1×1, 3×3, 1×1 convolutions with four times as many channels at the end (torchvision's `Bottleneck`).
    Bottleneck,
}

impl Block {
    /// Channels at the end of the block over channels inside it.
    pub fn expansion(self) -> usize {
        match self {
            Block::Basic => 1,
            Block::Bottleneck => 4,
        }
    }
}

/// A ResNet with four stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResNet {
    /// What the graph is called.
    pub name: String,
    /// The block.
    pub block: Block,
    /// Blocks in each stage.
    pub depths: [usize; 4],
    /// Number of outputs.
    pub num_classes: usize,
    /// Whether bottlenecks stride on the first 1×1 (the paper, "v1") instead of on the 3×3 (torchvision, "v1.5").
    pub v1_strides: bool,
}

impl ResNet {
    /// The ResNet of `block` and `depths` with torchvision's strides.
    pub fn new(name: &str, block: Block, depths: [usize; 4], num_classes: usize) -> Self {
        Self { name: name.into(), block, depths, num_classes, v1_strides: false }
    }

    /// The network, with torchvision's module paths, for images of 3×224×224.
    ///
    /// # Errors
    /// If a number is out of range, such as zero classes.
    pub fn graph(&self) -> Result<Graph, GraphError> {
        let mut net = Builder::new(&self.name, [3, 224, 224]);
        let x = net.conv("conv1", net.input(), Conv2d::new(3, 64, 7).stride(2).padding(3))?;
        let x = net.batch_norm("bn1", x)?;
        let x = net.relu("relu", x)?;
        let mut x = net.max_pool("maxpool", x, Pool2d::new(3, 2, 1))?;
        for (stage, &depth) in self.depths.iter().enumerate() {
            for block in 0..depth {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let path = format!("layer{}.{block}", stage + 1);
                x = self.residual_block(&mut net, &path, x, 64 << stage, stride)?;
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
        let out_channels = width * self.block.expansion();
        let convs = match self.block {
            Block::Basic => vec![
                Conv2d::new(in_channels, width, 3).padding(1).stride(stride),
                Conv2d::new(width, width, 3).padding(1),
            ],
            Block::Bottleneck => {
                let (first, second) = if self.v1_strides { (stride, 1) } else { (1, stride) };
                vec![
                    Conv2d::new(in_channels, width, 1).stride(first),
                    Conv2d::new(width, width, 3).padding(1).stride(second),
                    Conv2d::new(width, out_channels, 1),
                ]
            }
        };
        let mut y = x;
        for (index, conv) in convs.iter().enumerate() {
            let number = index + 1;
            y = net.conv(format!("{path}.conv{number}"), y, *conv)?;
            y = net.batch_norm(format!("{path}.bn{number}"), y)?;
            if number < convs.len() {
                y = net.relu(format!("{path}.relu{number}"), y)?;
            }
        }
        let shortcut = if stride != 1 || in_channels != out_channels {
            let conv = Conv2d::new(in_channels, out_channels, 1).stride(stride);
            let shortcut = net.conv(format!("{path}.downsample.0"), x, conv)?;
            net.batch_norm(format!("{path}.downsample.1"), shortcut)?
        } else {
            x
        };
        let sum = net.add(format!("{path}.add"), y, shortcut)?;
        net.relu(format!("{path}.relu{}", convs.len()), sum)
    }
}
