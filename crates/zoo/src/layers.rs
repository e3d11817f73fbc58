//! Layers shared by several families, with torchvision's names.

use residual_graph::{Builder, Conv2d, GraphError, NodeId, Op};

/// The residual function of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Block {
    /// Two 3×3 convolutions (torchvision's `BasicBlock`).
    Basic,
    /// 1×1, 3×3, 1×1 convolutions with four times as many channels at the end (torchvision's `Bottleneck`).
    Bottleneck,
}

impl Block {
    /// Expansion: output channels of the block divided by its inner channels.
    pub fn expansion(self) -> usize {
        match self {
            Block::Basic => 1,
            Block::Bottleneck => 4,
        }
    }

    /// The block's convolutions: from `in_channels` through `width` channels, with the stride on a 3×3.
    pub(crate) fn convs(self, in_channels: usize, width: usize, stride: usize) -> Vec<Conv2d> {
        let conv3 = |from| Conv2d::new(from, width, 3).padding(1);
        match self {
            Block::Basic => vec![conv3(in_channels).stride(stride), conv3(width)],
            Block::Bottleneck => vec![
                Conv2d::new(in_channels, width, 1),
                conv3(width).stride(stride),
                Conv2d::new(width, width * self.expansion(), 1),
            ],
        }
    }
}

/// `convs`, each followed by a batch norm, with ReLUs between them: `conv1`, `bn1`, `relu1`, `conv2`, `bn2`, … under
/// `path`.
pub(crate) fn conv_norms(net: &mut Builder, path: &str, x: NodeId, convs: &[Conv2d]) -> Result<NodeId, GraphError> {
    let mut y = x;
    for (index, conv) in convs.iter().enumerate() {
        let number = index + 1;
        y = net.conv(format!("{path}.conv{number}"), y, *conv)?;
        y = net.batch_norm(format!("{path}.bn{number}"), y)?;
        if number < convs.len() {
            y = net.relu(format!("{path}.relu{number}"), y)?;
        }
    }
    Ok(y)
}

/// A residual block: `convs` with their batch norms, then as [`add_shortcut`].
pub(crate) fn post_activation(
    net: &mut Builder,
    path: &str,
    x: NodeId,
    convs: &[Conv2d],
    stride: usize,
) -> Result<NodeId, GraphError> {
    let y = conv_norms(net, path, x, convs)?;
    add_shortcut(net, path, x, y, stride, convs.len())
}

/// The end of the residual block of so many convolutions: the sum of the branch `y` and the shortcut, which is a 1×1 convolution
/// with batch norm where the shape changes (`downsample`), and a ReLU.
pub(crate) fn add_shortcut(
    net: &mut Builder,
    path: &str,
    x: NodeId,
    y: NodeId,
    stride: usize,
    convs: usize,
) -> Result<NodeId, GraphError> {
    let (from, to) = (net.shape(x).channels, net.shape(y).channels);
    let shortcut = if stride != 1 || from != to {
        let shortcut = net.conv(format!("{path}.downsample.0"), x, Conv2d::new(from, to, 1).stride(stride))?;
        net.batch_norm(format!("{path}.downsample.1"), shortcut)?
    } else {
        x
    };
    let sum = net.add(format!("{path}.add"), y, shortcut)?;
    net.relu(format!("{path}.relu{convs}"), sum)
}

/// The standard stem for small images: `conv1` (3×3, stride 1), `bn1`, `relu`.
pub(crate) fn small_stem(net: &mut Builder, width: usize) -> Result<NodeId, GraphError> {
    let in_channels = net.shape(net.input()).channels;
    let x = net.conv("conv1", net.input(), Conv2d::new(in_channels, width, 3).padding(1))?;
    let x = net.batch_norm("bn1", x)?;
    net.relu("relu", x)
}

/// timm's `SEModule`: x times a gate per channel, computed from the channel means.
pub(crate) fn squeeze_excitation(net: &mut Builder, path: &str, x: NodeId) -> Result<NodeId, GraphError> {
    let channels = net.shape(x).channels;
    // A sixteenth, rounded to a multiple of 8.
    let reduced = ((channels as f64 / 16.0 + 4.0) as usize / 8 * 8).max(8);
    let y = net.global_avg_pool(format!("{path}.pool"), x)?;
    let y = net.conv(format!("{path}.fc1"), y, Conv2d::new(channels, reduced, 1).bias())?;
    let y = net.relu(format!("{path}.act"), y)?;
    let y = net.conv(format!("{path}.fc2"), y, Conv2d::new(reduced, channels, 1).bias())?;
    let y = net.push(format!("{path}.gate"), Op::Sigmoid, &[y])?;
    net.push(path, Op::Gate, &[x, y])
}

/// The standard head: global average pooling, dropout, linear layer `fc`.
pub(crate) fn head(net: &mut Builder, x: NodeId, num_classes: usize, dropout: f32) -> Result<NodeId, GraphError> {
    let x = net.global_avg_pool("avgpool", x)?;
    let x = net.flatten("flatten", x)?;
    if num_classes == 0 {
        return Ok(x);
    }
    let x = self::dropout(net, "dropout", x, dropout)?;
    net.linear("fc", x, num_classes, true)
}

/// Dropout, if the rate is above 0.
pub(crate) fn dropout(net: &mut Builder, name: impl Into<String>, x: NodeId, p: f32) -> Result<NodeId, GraphError> {
    if p > 0.0 { net.push(name, Op::Dropout { p }, &[x]) } else { Ok(x) }
}

/// The drop-path schedule of a network's blocks: the rate of stochastic depth rises linearly from 0 in the first to its
/// full value in the last (Huang et al., arXiv:1603.09382, section 3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct StochasticDepth {
    rate: f32,
    block: usize,
    blocks: usize,
}

impl StochasticDepth {
    pub(crate) fn new(rate: f32, depths: &[usize]) -> Self {
        Self { rate, block: 0, blocks: depths.iter().sum() }
    }

    /// The next block's branch, dropped at its rate where that is above 0.
    pub(crate) fn drop_path(&mut self, net: &mut Builder, name: String, x: NodeId) -> Result<NodeId, GraphError> {
        let last = self.blocks.saturating_sub(1).max(1);
        let p = self.rate * self.block as f32 / last as f32;
        self.block += 1;
        if p > 0.0 { net.push(name, Op::DropPath { p }, &[x]) } else { Ok(x) }
    }
}
