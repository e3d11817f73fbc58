//! Candle on a state dict in a safetensors file: torchvision's ResNet-18 and ResNet-50, and the ResNets for CIFAR.

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::{
    BatchNorm, Conv2d, Conv2dConfig, Linear, Module, VarBuilder, VarMap, batch_norm, conv2d_no_bias, linear, loss,
};
use peer_serve::{Arguments, Images, Peer, Result, labels, serve};
use std::path::PathBuf;

type Values = candle_core::Result<Tensor>;

/// A convolution and its batch norm; folded into one another for inference.
struct ConvNorm {
    conv: Conv2d,
    norm: Option<BatchNorm>,
}

impl ConvNorm {
    fn new(sizes: [usize; 4], conv: VarBuilder<'_>, norm: VarBuilder<'_>, train: bool) -> candle_core::Result<Self> {
        let [inputs, outputs, kernel, stride] = sizes;
        let config = Conv2dConfig { padding: kernel / 2, stride, ..Default::default() };
        let conv = conv2d_no_bias(inputs, outputs, kernel, config, conv)?;
        let norm = batch_norm(outputs, 1e-5, norm)?;
        Ok(match train {
            true => Self { conv, norm: Some(norm) },
            false => Self { conv: conv.absorb_bn(&norm)?, norm: None },
        })
    }

    fn forward(&self, x: &Tensor) -> Values {
        let y = self.conv.forward(x)?;
        match &self.norm {
            Some(norm) => norm.forward_train(&y),
            None => Ok(y),
        }
    }
}

struct Block {
    convs: Vec<ConvNorm>,
    downsample: Option<ConvNorm>,
}

impl Block {
    fn forward(&self, x: &Tensor) -> Values {
        let mut y = x.clone();
        for (index, conv) in self.convs.iter().enumerate() {
            y = if index == 0 { conv.forward(&y)? } else { conv.forward(&y.relu()?)? };
        }
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.forward(x)?,
            None => x.clone(),
        };
        (y + shortcut)?.relu()
    }
}

struct ResNet {
    stem: ConvNorm,
    pool: bool,
    blocks: Vec<Block>,
    fc: Linear,
}

impl ResNet {
    fn new(name: &str, vars: &VarBuilder<'_>, train: bool) -> Result<Self> {
        let (stem, counts, width, bottleneck, classes) = match name {
            "resnet20" => ([3, 16, 3, 1], vec![3; 3], 16, false, 10),
            "resnet56" => ([3, 16, 3, 1], vec![9; 3], 16, false, 10),
            "resnet18" => ([3, 64, 7, 2], vec![2; 4], 64, false, 1000),
            "resnet50" => ([3, 64, 7, 2], vec![3, 4, 6, 3], 64, true, 1000),
            _ => return Err(format!("{name}: unknown network").into()),
        };
        let mut blocks = Vec::new();
        let mut inputs = stem[1];
        for (stage, count) in counts.iter().enumerate() {
            let middle = width << stage;
            let outputs = if bottleneck { 4 * middle } else { middle };
            for index in 0..*count {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let vars = vars.pp(format!("layer{}.{index}", stage + 1));
                let sizes = match bottleneck {
                    true => vec![[inputs, middle, 1, 1], [middle, middle, 3, stride], [middle, outputs, 1, 1]],
                    false => vec![[inputs, outputs, 3, stride], [outputs, outputs, 3, 1]],
                };
                let convs = sizes
                    .into_iter()
                    .zip(1..)
                    .map(|(sizes, n)| {
                        ConvNorm::new(sizes, vars.pp(format!("conv{n}")), vars.pp(format!("bn{n}")), train)
                    })
                    .collect::<candle_core::Result<_>>()?;
                let downsample = (stride != 1 || inputs != outputs)
                    .then(|| {
                        let sizes = [inputs, outputs, 1, stride];
                        ConvNorm::new(sizes, vars.pp("downsample.0"), vars.pp("downsample.1"), train)
                    })
                    .transpose()?;
                blocks.push(Block { convs, downsample });
                inputs = outputs;
            }
        }
        Ok(Self {
            stem: ConvNorm::new(stem, vars.pp("conv1"), vars.pp("bn1"), train)?,
            pool: stem[2] == 7,
            blocks,
            fc: linear(inputs, classes, vars.pp("fc"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Values {
        let mut x = self.stem.forward(x)?.relu()?;
        if self.pool {
            // Candle's pooling knows no padding; behind a ReLU, zeros lose to every value.
            x = x.pad_with_zeros(D::Minus1, 1, 1)?.pad_with_zeros(D::Minus2, 1, 1)?.max_pool2d_with_stride(3, 2)?;
        }
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.fc.forward(&x.mean(D::Minus1)?.mean(D::Minus1)?)
    }
}

/// SGD with momentum, which candle's own does not have.
struct Sgd {
    vars: Vec<Var>,
    velocity: Vec<Option<Tensor>>,
}

impl Sgd {
    fn step(&mut self, gradients: &GradStore) -> Result<()> {
        for (var, velocity) in self.vars.iter().zip(&mut self.velocity) {
            // The running statistics are variables too, without gradients.
            let Some(gradient) = gradients.get(var) else { continue };
            let gradient = (gradient + (var.as_tensor() * 1e-4)?)?;
            let next = match velocity.take() {
                Some(velocity) => ((velocity * 0.9)? + gradient)?,
                None => gradient,
            }
            .detach();
            var.set(&(var.as_tensor() - (&next * 1e-3)?)?.detach())?;
            *velocity = Some(next);
        }
        Ok(())
    }
}

struct Training {
    vars: VarMap,
    weights: PathBuf,
    labels: Tensor,
    sgd: Sgd,
}

struct Candle {
    net: ResNet,
    input: Tensor,
    training: Option<Training>,
}

impl Peer for Candle {
    fn pass(&mut self) -> Result<()> {
        let logits = self.net.forward(&self.input)?;
        if let Some(training) = &mut self.training {
            let loss = loss::cross_entropy(&logits, &training.labels)?;
            training.sgd.step(&loss.backward()?)?;
        }
        Ok(())
    }

    fn logits(&mut self, images: Images) -> Result<Vec<f32>> {
        if let Some(training) = &mut self.training {
            training.vars.load(&training.weights)?;
        }
        let logits = self.net.forward(&tensor(images)?)?;
        Ok(logits.flatten_all()?.to_vec1()?)
    }
}

fn tensor(images: Images) -> Values {
    Tensor::from_vec(images.values, &images.shape, &Device::Cpu)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let batch = arguments.input.batch();
    let input = tensor(arguments.input)?;
    let mut candle = if arguments.train {
        let mut vars = VarMap::new();
        let net = ResNet::new(&arguments.model, &VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu), true)?;
        vars.load(&arguments.weights)?;
        let classes = net.fc.weight().dim(0)?;
        let labels = labels(batch, classes).into_iter().map(|label| label as u32).collect();
        let labels = Tensor::from_vec(labels, batch, &Device::Cpu)?;
        let all = vars.all_vars();
        let sgd = Sgd { velocity: vec![None; all.len()], vars: all };
        Candle { net, input, training: Some(Training { vars, weights: arguments.weights, labels, sgd }) }
    } else {
        let bytes = std::fs::read(&arguments.weights)?;
        let vars = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu)?;
        Candle { net: ResNet::new(&arguments.model, &vars, false)?, input, training: None }
    };
    serve(&mut candle, r#"{"versions": {"candle": "0.11.1"}, "batch norms": "folded for inference"}"#)
}
