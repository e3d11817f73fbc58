//! Burn on a state dict in a safetensors file: torchvision's ResNet-18 and ResNet-50, and the ResNets for CIFAR.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::store::{ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};
use peer_serve::{Arguments, Images, Peer, Result, labels, serve};
use std::path::{Path, PathBuf};

fn conv([inputs, outputs, kernel, stride]: [usize; 4], device: &Device) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new([inputs, outputs], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(false)
        .init(device)
}

fn norm(channels: usize, device: &Device) -> BatchNorm {
    BatchNormConfig::new(channels).init(device)
}

#[derive(Module, Debug)]
struct Downsample {
    conv: Conv2d,
    norm: BatchNorm,
}

#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    conv3: Option<Conv2d>,
    bn3: Option<BatchNorm>,
    downsample: Option<Downsample>,
}

impl Block {
    fn new(inputs: usize, middle: usize, stride: usize, bottleneck: bool, device: &Device) -> Self {
        let outputs = if bottleneck { 4 * middle } else { middle };
        let (first, second) = match bottleneck {
            true => ([inputs, middle, 1, 1], [middle, middle, 3, stride]),
            false => ([inputs, middle, 3, stride], [middle, middle, 3, 1]),
        };
        Self {
            conv1: conv(first, device),
            bn1: norm(middle, device),
            conv2: conv(second, device),
            bn2: norm(middle, device),
            conv3: bottleneck.then(|| conv([middle, outputs, 1, 1], device)),
            bn3: bottleneck.then(|| norm(outputs, device)),
            downsample: (stride != 1 || inputs != outputs)
                .then(|| Downsample { conv: conv([inputs, outputs, 1, stride], device), norm: norm(outputs, device) }),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.bn1.forward(self.conv1.forward(x.clone())));
        let mut y = self.bn2.forward(self.conv2.forward(y));
        if let (Some(conv3), Some(bn3)) = (&self.conv3, &self.bn3) {
            y = bn3.forward(conv3.forward(relu(y)));
        }
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.norm.forward(downsample.conv.forward(x)),
            None => x,
        };
        relu(y + shortcut)
    }
}

#[derive(Module, Debug)]
struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm,
    maxpool: Option<MaxPool2d>,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    layer4: Vec<Block>,
    fc: Linear,
}

impl ResNet {
    fn new(name: &str, device: &Device) -> Result<(Self, usize)> {
        let (stem, counts, width, bottleneck, classes) = match name {
            "resnet20" => ([3, 16, 3, 1], [3, 3, 3, 0], 16, false, 10),
            "resnet56" => ([3, 16, 3, 1], [9, 9, 9, 0], 16, false, 10),
            "resnet18" => ([3, 64, 7, 2], [2, 2, 2, 2], 64, false, 1000),
            "resnet50" => ([3, 64, 7, 2], [3, 4, 6, 3], 64, true, 1000),
            _ => return Err(format!("{name}: unknown network").into()),
        };
        let mut inputs = stem[1];
        let mut layer = |stage: usize| -> Vec<Block> {
            (0..counts[stage])
                .map(|index| {
                    let middle = width << stage;
                    let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                    let block = Block::new(inputs, middle, stride, bottleneck, device);
                    inputs = if bottleneck { 4 * middle } else { middle };
                    block
                })
                .collect()
        };
        let (layer1, layer2, layer3, layer4) = (layer(0), layer(1), layer(2), layer(3));
        let pool =
            MaxPool2dConfig::new([3, 3]).with_strides([2, 2]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
        let net = Self {
            conv1: conv(stem, device),
            bn1: norm(stem[1], device),
            maxpool: (stem[2] == 7).then(|| pool.init()),
            layer1,
            layer2,
            layer3,
            layer4,
            fc: LinearConfig::new(inputs, classes).init(device),
        };
        Ok((net, classes))
    }

    fn load(&mut self, path: &Path) -> Result<()> {
        let mut store = SafetensorsStore::from_file(path)
            .with_from_adapter(PyTorchToBurnAdapter)
            .with_key_remapping(r"downsample\.0\.", "downsample.conv.")
            .with_key_remapping(r"downsample\.1\.", "downsample.norm.");
        let result = self.load_from(&mut store)?;
        if !result.missing.is_empty() {
            return Err(format!("{}: missing {:?}", path.display(), result.missing).into());
        }
        Ok(())
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.bn1.forward(self.conv1.forward(x)));
        if let Some(pool) = &self.maxpool {
            x = pool.forward(x);
        }
        for block in [&self.layer1, &self.layer2, &self.layer3, &self.layer4].into_iter().flatten() {
            x = block.forward(x);
        }
        let [batch, channels, height, width] = x.dims();
        let x: Tensor<2> = x.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels]);
        self.fc.forward(x)
    }
}

struct Training {
    weights: PathBuf,
    labels: Tensor<1, Int>,
    loss: CrossEntropyLoss,
    sgd: ModuleOptimizer,
}

struct Burn {
    /// Always there; a step of training takes it and puts back the next.
    net: Option<ResNet>,
    input: Tensor<4>,
    training: Option<Training>,
}

impl Peer for Burn {
    fn pass(&mut self) -> Result<()> {
        let net = self.net.take().ok_or("no network")?;
        let logits = net.forward(self.input.clone());
        self.net = Some(match &mut self.training {
            Some(training) => {
                let loss = training.loss.forward(logits, training.labels.clone());
                let gradients = GradientsParams::from_grads(loss.backward(), &net);
                training.sgd.step(1e-3, net, gradients)
            }
            None => {
                logits.into_data();
                net
            }
        });
        Ok(())
    }

    fn logits(&mut self, images: Images) -> Result<Vec<f32>> {
        let net = self.net.as_mut().ok_or("no network")?;
        if let Some(training) = &self.training {
            net.load(&training.weights)?;
        }
        let device = self.input.device();
        Ok(net.forward(tensor(images, &device)).into_data().try_to_vec()?)
    }
}

fn tensor(images: Images, device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(images.values, images.shape), device)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let device = if arguments.train { Device::flex().autodiff() } else { Device::flex() };
    let (mut net, classes) = ResNet::new(&arguments.model, &device)?;
    net.load(&arguments.weights)?;
    let training = arguments.train.then(|| {
        let labels: Vec<i64> = labels(arguments.input.batch(), classes).into_iter().map(|label| label as i64).collect();
        let count = labels.len();
        Training {
            weights: arguments.weights,
            labels: Tensor::from_data(TensorData::new(labels, [count]), &device),
            loss: CrossEntropyLossConfig::new().init(&device),
            sgd: SgdConfig::new()
                .with_momentum(Some(MomentumConfig::new().with_momentum(0.9).with_dampening(0.0)))
                .with_weight_decay(Some(WeightDecayConfig::new(1e-4)))
                .init(),
        }
    });
    let input = tensor(arguments.input, &device);
    serve(&mut Burn { net: Some(net), input, training }, r#"{"versions": {"burn": "0.22.1"}, "backend": "flex"}"#)
}
