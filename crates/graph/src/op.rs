//! The ops and their tensors.

use serde::{Deserialize, Serialize};

/// Maximum extent, so that products of three extents do not overflow.
const MAX_EXTENT: usize = 1 << 20;

/// Maximum number of elements of a tensor.
const MAX_TENSOR: usize = 1 << 32;

/// A 2-d convolution (torch's `Conv2d` with zero padding). `[usize; 2]` is height, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Kernel size in pixels.
    pub kernel: [usize; 2],
    /// Step between outputs in pixels.
    pub stride: [usize; 2],
    /// Zeros on either side, in pixels.
    pub padding: [usize; 2],
    /// Distance between kernel taps in pixels.
    pub dilation: [usize; 2],
    /// Number of groups of channels that do not mix.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// Whether the weight is signed bytes with a scale for each output channel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quantized: bool,
}

impl Conv2d {
    /// A square convolution with stride 1, no padding, no groups and no bias.
    pub fn new(in_channels: usize, out_channels: usize, kernel: usize) -> Self {
        Self {
            in_channels,
            out_channels,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
            bias: false,
            quantized: false,
        }
    }

    /// With this stride in both directions.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride: [stride; 2], ..self }
    }

    /// With this many zeros on every side.
    pub fn padding(self, padding: usize) -> Self {
        Self { padding: [padding; 2], ..self }
    }

    /// With this dilation in both directions.
    pub fn dilation(self, dilation: usize) -> Self {
        Self { dilation: [dilation; 2], ..self }
    }

    /// With this many groups.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// With a bias.
    pub fn bias(self) -> Self {
        Self { bias: true, ..self }
    }
}

/// The window of a pooling op. `[usize; 2]` is height, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool2d {
    /// Window size in pixels.
    pub kernel: [usize; 2],
    /// Step between windows in pixels.
    pub stride: [usize; 2],
    /// Padding on either side in pixels, at most half the window.
    pub padding: [usize; 2],
    /// Whether a partial last window is included (torch's `ceil_mode`). It is clipped at the edge of
    /// the padded input, and one that would begin after the input and its left padding is dropped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ceil_mode: bool,
}

impl Pool2d {
    /// A square window.
    pub fn new(kernel: usize, stride: usize, padding: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 2], ceil_mode: false }
    }

    /// With partly filled windows at the end.
    pub fn ceil_mode(self) -> Self {
        Self { ceil_mode: true, ..self }
    }
}

/// The window that a convolution or pooling moves over its input. `[usize; 2]` is height, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Extent in values.
    pub kernel: [usize; 2],
    /// Step between windows in values.
    pub stride: [usize; 2],
    /// Padding on either side in values.
    pub padding: [usize; 2],
    /// Distance between the window's values.
    pub dilation: [usize; 2],
    /// Number of groups of channels that do not mix; 1 for poolings.
    pub groups: usize,
}

/// The op of a node. Feature maps have channels, height and width; vectors have height and width 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// The image, normalised. The extents are those the network was designed for.
    Input {
        /// Channels of the image.
        channels: usize,
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
    },
    /// torch's `Conv2d`.
    Conv2d(Conv2d),
    /// torch's `BatchNorm2d` with affine parameters and running statistics.
    BatchNorm2d {
        /// Channels.
        channels: usize,
        /// Added to the variance.
        eps: f32,
        /// Weight of the new batch in the running statistics.
        momentum: f32,
    },
    /// torch's `LayerNorm` over the channels of each pixel (torchvision's `LayerNorm2d`), with weight and bias.
    LayerNorm {
        /// Channels.
        channels: usize,
        /// Added to the variance.
        eps: f32,
    },
    /// x · `layer_scale`, one factor per channel (Touvron et al., arXiv:2103.17239; torchvision's `CNBlock`). The parameter
    /// has shape C×1×1.
    LayerScale {
        /// Channels.
        channels: usize,
    },
    /// max(x, 0).
    Relu,
    /// x · Φ(x), with the exact distribution function of the standard normal (torch's `GELU`).
    Gelu,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// The first input, H×W×C, times the second, 1×1×C: the end of squeeze-and-excitation (arXiv:1709.01507).
    Gate,
    /// The sum of all inputs, which have one shape.
    Add,
    /// Concatenation of the inputs along channels.
    Concat,
    /// Maximum over windows; padding never wins.
    MaxPool2d(Pool2d),
    /// Mean over windows.
    AvgPool2d {
        /// The windows.
        #[serde(flatten)]
        pool: Pool2d,
        /// Whether padded zeros count in the divisor (torch's default: true).
        count_include_pad: bool,
    },
    /// Mean over all pixels: height and width become 1.
    GlobalAvgPool,
    /// Mean over as many windows as the output has pixels, whatever the input's extent (torch's `AdaptiveAvgPool2d`):
    /// along each axis window i spans ⌊i·in/out⌋ to ⌈(i+1)·in/out⌉.
    AdaptiveAvgPool2d {
        /// Height and width of the output.
        output: [usize; 2],
    },
    /// A feature map as a vector, in torch's channel-major order.
    Flatten,
    /// torch's `Linear` on the channels of each pixel; a vector is a single pixel.
    Linear {
        /// Channels of the input.
        in_features: usize,
        /// Channels of the output.
        out_features: usize,
        /// Whether a bias is added.
        bias: bool,
        /// Whether the weight is signed bytes with a scale for each output channel.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        quantized: bool,
    },
    /// x, rounded to the nearest of 256 numbers (byte − `zero_point`) · `scale`, one quantisation for the whole value (ONNX's
    /// `QuantizeLinear` and `DequantizeLinear`). What reads it may compute with the bytes.
    Quantize,
    /// As [`Op::Quantize`], with the quantisation of the range of the values of a batch, which is stretched to include zero (ONNX's
    /// `DynamicQuantizeLinear`): an image's result depends on the others of its batch.
    QuantizeDynamic,
    /// Zeroes elements with probability `p` while training and scales the rest by 1 / (1 − p); nothing otherwise.
    Dropout {
        /// Probability of a zero, in [0, 1).
        p: f32,
    },
    /// Stochastic depth (Huang et al., arXiv:1603.09382): zeroes a whole sample with probability `p` while training and
    /// scales the others by 1 / (1 − p); nothing otherwise (torchvision's `StochasticDepth` in "row" mode).
    DropPath {
        /// Probability of a zero, in [0, 1).
        p: f32,
    },
    /// The parameter-free shortcut "A" of the ResNet paper (section 3.3): every `stride`-th pixel, with the new
    /// channels zero, half of them before and half after the old ones (as the widespread CIFAR code does).
    PadShortcut {
        /// Channels of the input.
        in_channels: usize,
        /// Channels of the output.
        out_channels: usize,
        /// Step between kept pixels.
        stride: usize,
    },
}

/// The role of a tensor in its op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The weight of a convolution or linear layer.
    Weight,
    /// The bias of a convolution or linear layer.
    Bias,
    /// The scale of a batch norm or layer norm.
    NormWeight,
    /// The shift of a batch norm or layer norm.
    NormBias,
    /// The factors of an [`Op::LayerScale`].
    LayerScale,
    /// The weight of a quantised convolution or linear layer, in signed bytes.
    QuantizedWeight,
    /// Not trained: the scale of a quantised weight for each output channel, or of a quantised value.
    Scale,
    /// Not trained, and an unsigned byte: the byte that means zero in a quantised value.
    ZeroPoint,
    /// Not trained: running statistics.
    Buffer,
    /// Not trained, and a 64-bit integer: `num_batches_tracked`.
    Counter,
}

impl Role {
    /// Whether the tensor is a parameter. All but quantised weights can be trained.
    pub fn is_parameter(self) -> bool {
        match self {
            Role::Weight | Role::Bias | Role::NormWeight | Role::NormBias | Role::LayerScale => true,
            Role::QuantizedWeight => true,
            Role::Scale | Role::ZeroPoint | Role::Buffer | Role::Counter => false,
        }
    }

    /// The name of the tensor's element type: `f32`, `i64`, `i8` or `u8`.
    pub fn type_name(self) -> &'static str {
        match self {
            Role::Weight | Role::Bias | Role::NormWeight | Role::NormBias | Role::LayerScale => "f32",
            Role::Scale | Role::Buffer => "f32",
            Role::Counter => "i64",
            Role::QuantizedWeight => "i8",
            Role::ZeroPoint => "u8",
        }
    }
}

/// One tensor of an op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Its name within the torch module.
    pub name: &'static str,
    /// Its shape in torch's order.
    pub shape: Vec<usize>,
    /// Its role in the op.
    pub role: Role,
}

/// Defines the names of all ops from one exhaustive list.
macro_rules! names {
    ($($op:pat => $name:literal,)*) => {
        /// The name of every op: a test that claims to see all of them compares with this list.
        pub const NAMES: &'static [&'static str] = &[$($name),*];

        /// The op's name in files and tables.
        pub fn name(&self) -> &'static str {
            match self {
                $($op => $name,)*
            }
        }
    };
}

impl Op {
    names! {
        Op::Input { .. } => "input",
        Op::Conv2d(_) => "conv2d",
        Op::BatchNorm2d { .. } => "batch_norm2d",
        Op::LayerNorm { .. } => "layer_norm",
        Op::LayerScale { .. } => "layer_scale",
        Op::Relu => "relu",
        Op::Gelu => "gelu",
        Op::Sigmoid => "sigmoid",
        Op::Gate => "gate",
        Op::Add => "add",
        Op::Concat => "concat",
        Op::MaxPool2d(_) => "max_pool2d",
        Op::AvgPool2d { .. } => "avg_pool2d",
        Op::GlobalAvgPool => "global_avg_pool",
        Op::AdaptiveAvgPool2d { .. } => "adaptive_avg_pool2d",
        Op::Flatten => "flatten",
        Op::Linear { .. } => "linear",
        Op::Quantize => "quantize",
        Op::QuantizeDynamic => "quantize_dynamic",
        Op::Dropout { .. } => "dropout",
        Op::DropPath { .. } => "drop_path",
        Op::PadShortcut { .. } => "pad_shortcut",
    }

    /// The window of an op that moves one: convolutions, poolings of fixed windows, and the strided shortcut.
    pub fn window(&self) -> Option<Window> {
        match *self {
            Op::Conv2d(Conv2d { kernel, stride, padding, dilation, groups, .. }) => {
                Some(Window { kernel, stride, padding, dilation, groups })
            }
            Op::MaxPool2d(pool) | Op::AvgPool2d { pool, .. } => {
                let Pool2d { kernel, stride, padding, .. } = pool;
                Some(Window { kernel, stride, padding, dilation: [1; 2], groups: 1 })
            }
            Op::PadShortcut { stride, .. } => {
                Some(Window { kernel: [1; 2], stride: [stride; 2], padding: [0; 2], dilation: [1; 2], groups: 1 })
            }
            Op::Input { .. } | Op::BatchNorm2d { .. } | Op::LayerNorm { .. } | Op::LayerScale { .. } => None,
            Op::Relu | Op::Gelu | Op::Sigmoid | Op::Gate | Op::Add | Op::Concat => None,
            Op::Quantize | Op::QuantizeDynamic => None,
            Op::GlobalAvgPool | Op::AdaptiveAvgPool2d { .. } | Op::Flatten | Op::Linear { .. } => None,
            Op::Dropout { .. } | Op::DropPath { .. } => None,
        }
    }

    /// Whether the weight is quantised.
    pub fn is_quantized(&self) -> bool {
        matches!(self, Op::Conv2d(Conv2d { quantized: true, .. }) | Op::Linear { quantized: true, .. })
    }

    /// Whether it rounds a value to bytes.
    pub fn quantizes(&self) -> bool {
        matches!(self, Op::Quantize | Op::QuantizeDynamic)
    }

    /// Whether it has parameters, as a layer has.
    pub fn has_parameters(&self) -> bool {
        self.parameters().iter().any(|spec| spec.role.is_parameter())
    }

    /// The op's tensors in the order of torch's state dict.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        let spec = |name, shape: &[usize], role| ParameterSpec { name, shape: shape.to_vec(), role };
        let layer = |shape: &[usize], quantized: bool, bias: bool| {
            let out = shape[0];
            let mut specs = match quantized {
                true => vec![spec("weight", shape, Role::QuantizedWeight), spec("weight_scale", &[out], Role::Scale)],
                false => vec![spec("weight", shape, Role::Weight)],
            };
            if bias {
                specs.push(spec("bias", &[out], Role::Bias));
            }
            specs
        };
        match *self {
            Op::Conv2d(conv) => {
                let [kh, kw] = conv.kernel;
                let shape = [conv.out_channels, conv.in_channels / conv.groups, kh, kw];
                layer(&shape, conv.quantized, conv.bias)
            }
            Op::Linear { in_features, out_features, bias, quantized } => {
                layer(&[out_features, in_features], quantized, bias)
            }
            Op::Quantize => vec![spec("scale", &[], Role::Scale), spec("zero_point", &[], Role::ZeroPoint)],
            Op::BatchNorm2d { channels, .. } => vec![
                spec("weight", &[channels], Role::NormWeight),
                spec("bias", &[channels], Role::NormBias),
                spec("running_mean", &[channels], Role::Buffer),
                spec("running_var", &[channels], Role::Buffer),
                spec("num_batches_tracked", &[], Role::Counter),
            ],
            Op::LayerNorm { channels, .. } => {
                vec![spec("weight", &[channels], Role::NormWeight), spec("bias", &[channels], Role::NormBias)]
            }
            Op::LayerScale { channels } => vec![spec("layer_scale", &[channels, 1, 1], Role::LayerScale)],
            Op::Input { .. } | Op::Add | Op::Concat | Op::Gate | Op::PadShortcut { .. } => Vec::new(),
            Op::Relu | Op::Gelu | Op::Sigmoid | Op::Dropout { .. } | Op::DropPath { .. } => Vec::new(),
            Op::QuantizeDynamic => Vec::new(),
            Op::MaxPool2d(_)
            | Op::AvgPool2d { .. }
            | Op::GlobalAvgPool
            | Op::AdaptiveAvgPool2d { .. }
            | Op::Flatten => Vec::new(),
        }
    }

    /// Validates the op's attributes; the message says what was expected and what was found.
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.validate_numbers()?;
        for ParameterSpec { name, shape, .. } in self.parameters() {
            let elements = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
            if elements.is_none_or(|elements| elements > MAX_TENSOR) {
                return Err(format!("{name}: expected at most {MAX_TENSOR} elements, got {shape:?}"));
            }
        }
        Ok(())
    }

    fn validate_numbers(&self) -> Result<(), String> {
        let extents = |what: &str, values: &[usize]| match values.iter().find(|&&v| v == 0 || v > MAX_EXTENT) {
            Some(bad) => Err(format!("{what}: expected 1 to {MAX_EXTENT}, got {bad}")),
            None => Ok(()),
        };
        let positive = |what: &str, value: f32| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(format!("{what}: expected a positive number, got {value}")),
        };
        let window = |kernel: [usize; 2], padding: [usize; 2]| {
            if (0..2).any(|axis| padding[axis] > kernel[axis] / 2) {
                return Err(format!("padding: expected at most half of kernel {kernel:?}, got {padding:?}"));
            }
            Ok(())
        };
        match *self {
            Op::Input { channels, height, width } => extents("input", &[channels, height, width]),
            Op::Conv2d(conv) => {
                extents("channels", &[conv.in_channels, conv.out_channels])?;
                extents("groups", &[conv.groups])?;
                extents("kernel", &conv.kernel)?;
                extents("stride", &conv.stride)?;
                extents("dilation", &conv.dilation)?;
                if conv.padding.iter().any(|&p| p > MAX_EXTENT) {
                    return Err(format!("padding: expected at most {MAX_EXTENT}, got {:?}", conv.padding));
                }
                if conv.in_channels % conv.groups != 0 || conv.out_channels % conv.groups != 0 {
                    return Err(format!(
                        "groups: expected a divisor of {} and {}, got {}",
                        conv.in_channels, conv.out_channels, conv.groups
                    ));
                }
                Ok(())
            }
            Op::BatchNorm2d { channels, eps, momentum } => {
                extents("channels", &[channels])?;
                positive("eps", eps)?;
                if !(0.0..=1.0).contains(&momentum) {
                    return Err(format!("momentum: expected 0 to 1, got {momentum}"));
                }
                Ok(())
            }
            Op::MaxPool2d(pool) | Op::AvgPool2d { pool, .. } => {
                extents("kernel", &pool.kernel)?;
                extents("stride", &pool.stride)?;
                window(pool.kernel, pool.padding)
            }
            Op::Linear { in_features, out_features, .. } => extents("features", &[in_features, out_features]),
            Op::LayerNorm { channels, eps } => {
                extents("channels", &[channels])?;
                positive("eps", eps)
            }
            Op::LayerScale { channels } => extents("channels", &[channels]),
            Op::AdaptiveAvgPool2d { output } => extents("output", &output),
            Op::Dropout { p } | Op::DropPath { p } => match (0.0..1.0).contains(&p) {
                true => Ok(()),
                false => Err(format!("p: expected 0 to below 1, got {p}")),
            },
            Op::PadShortcut { in_channels, out_channels, stride } => {
                extents("channels", &[in_channels, out_channels])?;
                extents("stride", &[stride])?;
                if out_channels < in_channels || (out_channels - in_channels) % 2 != 0 {
                    return Err(format!(
                        "out_channels: expected in_channels ({in_channels}) plus an even number, got {out_channels}"
                    ));
                }
                Ok(())
            }
            Op::Relu | Op::Gelu | Op::Sigmoid | Op::Gate | Op::Add | Op::Concat => Ok(()),
            Op::Quantize | Op::QuantizeDynamic | Op::GlobalAvgPool | Op::Flatten => Ok(()),
        }
    }
}
