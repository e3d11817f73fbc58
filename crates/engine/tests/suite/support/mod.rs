//! A network of every op, and images for it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use residual_engine::{GradientOptions, InferenceOptions, Options};
use residual_graph::{Builder, Conv2d, Graph, Op, Pool2d};
use residual_kernels::Isa;
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_tensor::Stream;
use residual_threads::Pool;
use std::sync::Arc;

pub(crate) fn options(threads: usize) -> Options {
    Options::new(Isa::detect(), Arc::new(Pool::new(threads)))
}

pub(crate) fn packed_on_use(pack_on_use: bool, options: Options) -> Options {
    Options { inference: InferenceOptions { pack_on_use, ..InferenceOptions::default() }, ..options }
}

pub(crate) fn checkpointed(checkpointing: bool, options: Options) -> Options {
    Options { gradients: GradientOptions { checkpointing, ..options.gradients }, ..options }
}

/// A model with random biases and statistics, so that nothing is zero or one by chance.
pub(crate) fn model(graph: Graph) -> Model {
    let mut tensors = initialise(&graph, Initialisation::Torch, 1);
    for (index, (key, tensor)) in tensors.iter_mut().enumerate() {
        let mut stream = Stream::new(2, &[index as u64]);
        let (low, high) = match key.rsplit('.').next() {
            Some("running_var") => (0.5, 2.0),
            Some("weight") if tensor.shape().len() == 1 => (0.5, 1.5),
            Some("layer_scale") => (0.5, 1.5),
            Some("bias" | "running_mean") => (-0.3, 0.3),
            _ => continue,
        };
        tensor.as_f32_mut().unwrap().iter_mut().for_each(|value| *value = stream.range(low, high));
    }
    let [channels, height, width] = graph.input_size();
    let preprocessing = Preprocessing::unscaled([height, width], &vec![0.0; channels], &vec![1.0; channels]);
    Model::new(graph, tensors, preprocessing, Vec::new()).unwrap()
}

pub(crate) fn images(model: &Model, count: usize) -> Vec<f32> {
    let len = model.graph.input_size().iter().product::<usize>();
    let mut stream = Stream::new(3, &[]);
    (0..count * len).map(|_| stream.normal()).collect()
}

/// Every op, in every position that the fusing pass tells apart.
pub(crate) fn every_op() -> Graph {
    let mut net = Builder::new("every_op", [3, 12, 10]);
    let stem = net.conv("stem", net.input(), Conv2d::new(3, 8, 3).padding(1).bias()).unwrap();
    let stem = net.relu("stem_relu", stem).unwrap();
    let a = net.conv("a", stem, Conv2d::new(8, 8, 3).padding(2).dilation(2).groups(2)).unwrap();
    let a = net.batch_norm("a_bn", a).unwrap();
    let a = net.add("a_add", stem, a).unwrap();
    let pre = net.batch_norm("pre_bn", a).unwrap();
    let pre = net.relu("pre_relu", pre).unwrap();
    let b = net.conv("b", pre, Conv2d::new(8, 8, 1).bias()).unwrap();
    let b = net.add("b_add", b, a).unwrap();
    let c = net.layer_norm("norm", b, 1e-5).unwrap();
    let c = net.linear("up", c, 12, true).unwrap();
    let c = net.push("gelu", Op::Gelu, &[c]).unwrap();
    let c = net.linear("down", c, 8, false).unwrap();
    let c = net.push("layer", Op::LayerScale { channels: 8 }, &[c]).unwrap();
    let c = net.add("layer_add", c, b).unwrap();
    let d = net.conv("d", c, Conv2d::new(8, 8, 3).padding(1)).unwrap();
    let squeezed = net.global_avg_pool("se_pool", d).unwrap();
    let squeezed = net.conv("se_fc", squeezed, Conv2d::new(8, 8, 1).bias()).unwrap();
    let gate = net.push("se_gate", Op::Sigmoid, &[squeezed]).unwrap();
    let d = net.push("se", Op::Gate, &[d, gate]).unwrap();
    let d = net.add("se_add", d, c).unwrap();
    let d = net.relu("se_relu", d).unwrap();
    let e = net.push("scaled", Op::LayerScale { channels: 8 }, &[d]).unwrap();
    let e = net.push("path", Op::DropPath { p: 0.4 }, &[e]).unwrap();
    let e = net.push("gated", Op::Gate, &[e, gate]).unwrap();
    let e = net.add("path_add", e, d).unwrap();
    let first = net.max_pool("max", b, Pool2d::new(3, 2, 1)).unwrap();
    let second = net.max_pool("ceil_max", e, Pool2d::new(3, 2, 0).ceil_mode()).unwrap();
    let pooled = net.add("max_add", first, second).unwrap();
    let average = Op::AvgPool2d { pool: Pool2d::new(3, 2, 1), count_include_pad: false };
    let first = net.push("average", average, &[b]).unwrap();
    let average = Op::AvgPool2d { pool: Pool2d::new(3, 2, 0).ceil_mode(), count_include_pad: true };
    let second = net.push("ceil_average", average, &[e]).unwrap();
    let average = net.add("average_add", first, second).unwrap();
    let shortcut = Op::PadShortcut { in_channels: 8, out_channels: 12, stride: 2 };
    let shortcut = net.push("shortcut", shortcut, &[b]).unwrap();
    let joined = net.push("joined", Op::Concat, &[pooled, average, shortcut]).unwrap();
    let dropped = net.push("dropped", Op::Dropout { p: 0.25 }, &[joined]).unwrap();
    let three = net.push("three", Op::Add, &[dropped, joined, joined]).unwrap();
    let three = net.relu("three_relu", three).unwrap();
    let strided = net.conv("strided", three, Conv2d::new(28, 6, 3).stride(2).padding(1)).unwrap();
    let flat = net.flatten("flat", strided).unwrap();
    let flat = net.relu("flat_relu", flat).unwrap();
    let hidden = net.linear("hidden", flat, 9, true).unwrap();
    let adapted = net.push("adapted", Op::AdaptiveAvgPool2d { output: [4, 7] }, &[three]).unwrap();
    let narrow = net.max_pool("max_of_means", adapted, Pool2d::new(2, 2, 0)).unwrap();
    let narrow = net.global_avg_pool("mean", narrow).unwrap();
    let narrow = net.flatten("mean_flat", narrow).unwrap();
    let narrow = net.linear("narrow", narrow, 9, false).unwrap();
    let narrow = net.batch_norm("narrow_bn", narrow).unwrap();
    let sum = net.add("sum", hidden, narrow).unwrap();
    let sum = net.relu("sum_relu", sum).unwrap();
    let out = net.linear("fc", sum, 5, true).unwrap();
    net.finish(out).unwrap()
}

/// Convolutions whose outputs fill several panels of packed weights and part of another, with and without groups.
pub(crate) fn wide() -> Graph {
    let mut net = Builder::new("wide", [5, 6, 7]);
    let x = net.conv("a", net.input(), Conv2d::new(5, 150, 3).padding(1).bias()).unwrap();
    let x = net.batch_norm("a_bn", x).unwrap();
    let x = net.conv("b", x, Conv2d::new(150, 202, 3).stride(2).groups(2)).unwrap();
    let x = net.batch_norm("b_bn", x).unwrap();
    let x = net.conv("c", x, Conv2d::new(202, 202, 2).groups(202).bias()).unwrap();
    let x = net.conv("d", x, Conv2d::new(202, 96, 1)).unwrap();
    let x = net.relu("d_relu", x).unwrap();
    let x = net.conv("e", x, Conv2d::new(96, 64, 3).padding(1)).unwrap();
    let x = net.batch_norm("e_bn", x).unwrap();
    let x = net.flatten("flat", x).unwrap();
    let x = net.linear("fc", x, 131, true).unwrap();
    net.finish(x).unwrap()
}
