//! Kernels against what PyTorch computed in float64: `tests/golden/ops.json`, whose format and tensors are documented in
//! the script that wrote it, `crates/engine/tests/golden/make_golden.py`.

use crate::batch_norm::batch_norm;
use crate::{close, stamp};
use residual_kernels::conv::{Algorithms, Conv, ConvShape, Epilogue};
use residual_kernels::loss::{Targets, cross_entropy};
use residual_kernels::optim::{Adam, adam};
use residual_kernels::pool::{self, PoolShape};
use residual_kernels::rows;
use residual_kernels::{Isa, batch_norm as kernel};
use residual_threads::Pool;
use serde_json::Value;

stamp!(convolutions_are_torch_s, max_pools_are_torch_s, batch_norms_are_torch_s, adamw_steps_are_torch_s);

const INPUT: u64 = 0;
const WEIGHT: u64 = 1;
const BIAS: u64 = 2;
const OUTPUT_GRADIENT: u64 = 3;
const RUNNING_MEAN: u64 = 4;
const RUNNING_VAR: u64 = 5;

/// One operation: its settings, its results, and its position in the file, which names its tensors.
struct Case {
    position: u64,
    value: Value,
}

/// The file's cases of one operation.
fn cases(op: &str) -> Vec<Case> {
    let file: Value = serde_json::from_str(include_str!("../golden/ops.json")).expect("JSON");
    let list = file["cases"].as_array().expect("a list").clone();
    let cases: Vec<Case> = (0..)
        .zip(list)
        .map(|(position, value)| Case { position, value })
        .filter(|case| case.value["op"] == op)
        .collect();
    assert!(!cases.is_empty(), "no case of {op}");
    cases
}

fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Case {
    fn what(&self) -> String {
        format!("case {}, {}", self.position, self.value["op"])
    }

    fn number(&self, key: &str) -> f64 {
        self.value[key].as_f64().unwrap_or_else(|| panic!("{}: number {key}", self.what()))
    }

    fn flag(&self, key: &str) -> bool {
        self.value[key].as_bool().unwrap_or_else(|| panic!("{}: flag {key}", self.what()))
    }

    fn list(&self, key: &str) -> Vec<f64> {
        let list = self.value[key].as_array().unwrap_or_else(|| panic!("{}: list {key}", self.what()));
        list.iter().map(|value| value.as_f64().expect("a number")).collect()
    }

    fn floats(&self, key: &str) -> Vec<f32> {
        self.list(key).into_iter().map(|value| value as f32).collect()
    }

    fn sizes<const N: usize>(&self, key: &str) -> [usize; N] {
        let list: Vec<usize> = self.list(key).into_iter().map(|value| value as usize).collect();
        list.try_into().unwrap_or_else(|list| panic!("{}: {key} is {list:?}", self.what()))
    }

    /// The formula's tensor of a role.
    fn tensor(&self, role: u64, len: usize) -> Vec<f32> {
        let t = (1 << 21) + 16 * self.position + role;
        let bits = (0..len as u64).map(|index| splitmix64(t << 32 | index) >> 40);
        bits.map(|bits| bits as f32 * (1.0 / 8_388_608.0) - 1.0).collect()
    }
}

/// Reorders axes: axis `k` of the result is axis `order[k]` of `values`, which has `sizes`.
fn transpose(values: &[f32], sizes: [usize; 4], order: [usize; 4]) -> Vec<f32> {
    let strides = [sizes[1] * sizes[2] * sizes[3], sizes[2] * sizes[3], sizes[3], 1];
    let [a, b, c, d] = order.map(|axis| (0..sizes[axis]).map(move |index| index * strides[axis]));
    let mut result = Vec::with_capacity(values.len());
    for a in a {
        for b in b.clone() {
            for c in c.clone() {
                result.extend(d.clone().map(|d| values[a + b + c + d]));
            }
        }
    }
    result
}

fn nhwc(values: &[f32], nchw: [usize; 4]) -> Vec<f32> {
    transpose(values, nchw, [0, 2, 3, 1])
}

/// From OIHW, group by group, to the layout of the kernels.
fn group_hwio(values: &[f32], [out_channels, inputs, height, width]: [usize; 4], groups: usize) -> Vec<f32> {
    let sizes = [out_channels / groups, inputs, height, width];
    values.chunks_exact(values.len() / groups).flat_map(|group| transpose(group, sizes, [2, 3, 1, 0])).collect()
}

fn convolutions_are_torch_s(isa: Isa) {
    let pool = Pool::new(2);
    for case in cases("conv2d") {
        let what = case.what();
        let (input, weight, output) =
            (case.sizes::<4>("input_shape"), case.sizes::<4>("weight_shape"), case.sizes::<4>("output_shape"));
        let shape = ConvShape {
            input: [input[2], input[3]],
            in_channels: input[1],
            out_channels: weight[0],
            kernel: [weight[2], weight[3]],
            stride: case.sizes("stride"),
            padding: case.sizes("padding"),
            dilation: case.sizes("dilation"),
            groups: case.number("groups") as usize,
        };
        assert_eq!(shape.output(), [output[2], output[3]], "{what}");
        let tensor = |role: u64, sizes: [usize; 4]| case.tensor(role, sizes.iter().product());
        let (x, dy) = (nhwc(&tensor(INPUT, input), input), nhwc(&tensor(OUTPUT_GRADIENT, output), output));
        let w = group_hwio(&tensor(WEIGHT, weight), weight, shape.groups);
        let bias = case.tensor(BIAS, shape.out_channels);
        let images = input[0];
        let conv = Conv::with_algorithms(isa, shape, Algorithms::DIRECT);
        let workspace_len = conv.workspace_len(pool.threads()).max(conv.weights_workspace_len(images, pool.threads()));
        let mut workspace = vec![f32::NAN; workspace_len];

        let mut packed = vec![f32::NAN; conv.packed_forward_len()];
        conv.pack_forward(&pool, &w, &mut packed);
        let mut y = vec![f32::NAN; dy.len()];
        let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
        conv.forward(&pool, images, &x, &packed, epilogue, &mut y, &mut workspace);
        close(&y, &nhwc(&case.floats("output"), output), 1e-6, &what);

        let mut packed = vec![f32::NAN; conv.packed_backward_len()];
        conv.pack_backward(&pool, &w, &mut packed);
        let mut dx = vec![f32::NAN; x.len()];
        conv.backward_data(&pool, images, &dy, &packed, false, &mut dx, &mut workspace);
        close(&dx, &nhwc(&case.floats("grad_input"), input), 1e-6, &what);

        let mut dw = vec![f32::NAN; w.len()];
        conv.backward_weights(&pool, images, &x, &dy, &mut dw, &mut workspace);
        close(&dw, &group_hwio(&case.floats("grad_weight"), weight, shape.groups), 1e-6, &what);

        let mut db = vec![f32::NAN; bias.len()];
        rows::column_sums(isa, &pool, &dy, &mut db, &mut vec![f32::NAN; rows::workspace_len(bias.len())]);
        close(&db, &case.floats("grad_bias"), 1e-6, &what);
    }
}

/// A pooling with its tensors in NHWC.
struct Pooling {
    images: usize,
    shape: PoolShape,
    x: Vec<f32>,
    y: Vec<f32>,
    dy: Vec<f32>,
    dx: Vec<f32>,
}

impl Pooling {
    fn new(case: &Case) -> Self {
        let (input, output) = (case.sizes::<4>("input_shape"), case.sizes::<4>("output_shape"));
        let extent = |key: &str| [case.number(key) as usize; 2];
        let shape = PoolShape {
            input: [input[2], input[3]],
            channels: input[1],
            kernel: extent("kernel"),
            stride: extent("stride"),
            padding: extent("padding"),
            ceil_mode: false,
        };
        assert_eq!(shape.output(), [output[2], output[3]], "{}", case.what());
        Self {
            images: input[0],
            shape,
            x: nhwc(&case.tensor(INPUT, input.iter().product()), input),
            y: nhwc(&case.floats("output"), output),
            dy: nhwc(&case.tensor(OUTPUT_GRADIENT, output.iter().product()), output),
            dx: nhwc(&case.floats("grad_input"), input),
        }
    }
}

fn max_pools_are_torch_s(isa: Isa) {
    let pool = Pool::new(2);
    for case in cases("max_pool2d") {
        let Pooling { images, shape, x, y, dy, dx } = Pooling::new(&case);
        let mut got = vec![f32::NAN; y.len()];
        let mut index = vec![0; images * shape.index_len()];
        pool::max_pool_with_index(isa, &pool, &shape, images, &x, &mut got, &mut index);
        close(&got, &y, 1e-7, &case.what());
        let mut gradient = vec![f32::NAN; x.len()];
        pool::max_pool_backward(&pool, &shape, images, &index, &dy, false, &mut gradient);
        close(&gradient, &dx, 1e-6, &case.what());
    }
}

#[test]
fn avg_pools_are_torch_s() {
    let pool = Pool::new(2);
    for case in cases("avg_pool2d") {
        let include = case.flag("count_include_pad");
        let Pooling { images, shape, x, y, dy, dx } = Pooling::new(&case);
        let mut got = vec![f32::NAN; y.len()];
        pool::avg_pool(&pool, &shape, include, images, &x, &mut got);
        close(&got, &y, 1e-6, &case.what());
        let mut gradient = vec![f32::NAN; x.len()];
        pool::avg_pool_backward(&pool, &shape, include, images, &dy, false, &mut gradient);
        close(&gradient, &dx, 1e-6, &case.what());
    }
}

fn batch_norms_are_torch_s(isa: Isa) {
    for case in cases("batch_norm") {
        let (sizes, what) = (case.sizes::<4>("input_shape"), case.what());
        let (channels, len) = (sizes[1], sizes.iter().product());
        let x = nhwc(&case.tensor(INPUT, len), sizes);
        let dy = nhwc(&case.tensor(OUTPUT_GRADIENT, len), sizes);
        let gamma: Vec<f32> = case.tensor(WEIGHT, channels).iter().map(|u| 1.0 + 0.25 * u).collect();
        let beta = case.tensor(BIAS, channels);
        let running_mean = case.tensor(RUNNING_MEAN, channels);
        let running_var: Vec<f32> = case.tensor(RUNNING_VAR, channels).iter().map(|u| 2.0 + u).collect();
        let training = case.flag("training");
        let frozen = (!training).then_some((&running_mean[..], &running_var[..]));

        let got = batch_norm(isa, &x, &gamma, &beta, frozen, case.number("eps") as f32, &dy);
        close(&got.y, &nhwc(&case.floats("output"), sizes), 2e-6, &what);
        close(&got.dx, &nhwc(&case.floats("grad_input"), sizes), 2e-6, &what);
        close(&got.dgamma, &case.floats("grad_weight"), 2e-6, &what);
        close(&got.dbeta, &case.floats("grad_bias"), 2e-6, &what);

        let (mut followed_mean, mut followed_var) = (running_mean.clone(), running_var.clone());
        if training {
            let momentum = case.number("momentum") as f32;
            let (mean, variance) = (&mut followed_mean, &mut followed_var);
            kernel::update_running(momentum, len / channels, &got.mean, &got.variance, mean, variance);
        }
        close(&followed_mean, &case.floats("running_mean"), 1e-6, &what);
        close(&followed_var, &case.floats("running_var"), 1e-6, &what);
    }
}

fn adamw_steps_are_torch_s(isa: Isa) {
    for case in cases("adamw") {
        let (len, steps) = (case.number("numel") as usize, case.number("steps") as u64);
        let [lr, beta1, beta2, eps, weight_decay] =
            ["lr", "beta1", "beta2", "eps", "weight_decay"].map(|key| case.number(key));
        let rule = Adam { lr, beta1, beta2, eps, weight_decay, decoupled: true };
        let (mut values, mut first, mut second) = (case.tensor(INPUT, len), vec![0.0; len], vec![0.0; len]);
        for step in 1..=steps {
            let gradient = case.tensor(step, len);
            adam(isa, &Pool::new(2), &mut values, &gradient, &mut first, &mut second, step, &rule);
            if step == 1 {
                close(&values, &case.floats("first"), 2e-7, &case.what());
            }
        }
        close(&values, &case.floats("last"), 1e-6, &case.what());
    }
}

#[test]
fn cross_entropies_are_torch_s() {
    for kind in ["cross_entropy", "cross_entropy_mixed", "cross_entropy_soft"] {
        for case in cases(kind) {
            let [images, classes] = case.sizes("input_shape");
            let logits: Vec<f32> = case.tensor(INPUT, images * classes).iter().map(|u| 3.0 * u).collect();
            let labels = |factor: usize, first: usize| -> Vec<u32> {
                (0..images).map(|image| ((factor * image + first) % classes) as u32).collect()
            };
            let (hard, a, b) = (labels(7, 3), labels(2, 3), labels(5, 1));
            let soft: Vec<f32> = case.tensor(WEIGHT, images * classes).iter().map(|u| (1.0 + u) / 4.0).collect();
            let targets = match kind {
                "cross_entropy" => Targets::Hard(&hard),
                "cross_entropy_mixed" => Targets::Mixed { a: &a, b: &b, lambda: 0.3 },
                _ => Targets::Soft(&soft),
            };
            let mut gradient = vec![f32::NAN; logits.len()];
            let smoothing = case.number("smoothing") as f32;
            let value = cross_entropy(&logits, targets, classes, smoothing, Some(&mut gradient));
            close(&[value as f32], &case.floats("output"), 2e-7, &case.what());
            close(&gradient, &case.floats("grad_input"), 1e-7, &case.what());
        }
    }
}
