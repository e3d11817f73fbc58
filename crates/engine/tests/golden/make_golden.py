"""Writes the golden files beside this script: what PyTorch computes in float64, for networks whose weights a formula gives.

    python make_golden.py [resnet20 resnet20_a resnet18 resnet50 FAMILY.. ops]      (needs torch, torchvision, timm, numpy)

FAMILY is a name of `families.py`: a small network of that family.

Every number of weights and inputs comes from a counter, so a test reproduces it bit for bit without a weight file.
All of the following is IEEE float32 arithmetic, one rounding per operation, no fused multiply-add:

    hash(t, i)    = splitmix64((t << 32) | i), with splitmix64(x), modulo 2**64:
                        z = x + 0x9e3779b97f4a7c15
                        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
                        z = (z ^ (z >> 27)) * 0x94d049bb133111eb
                        z ^ (z >> 31)
    u(t, i)       = f32(hash(t, i) >> 40) * 2**-23 - 1                 exact, in [-1, 1)

where t is the tensor's index among ALL entries of the state dict in torch's order (`num_batches_tracked` included; with
`in_order_of_computation` of families.py) and
i is the element's index in torch's row-major layout (OIHW for a convolution). By kind of tensor:

    convolution weight             u * f32(sqrt(6 / fan_in))           the factor in float64, then rounded; fan_in = I/groups*H*W
    linear weight                  u * f32(4 / sqrt(fan_in))           fan_in = the layer's inputs
    bias of either                 u * f32(1 / sqrt(fan_in))
    layer norm weight, bias        1 + 2**-2 * u, 2**-2 * u
    layer_scale                    2**-1 + 2**-3 * u
    batch norm weight              2**-4 + 2**-6 * u
    batch norm bias                (i % 8 == 7 ? -level : level) + 2**-6 * u       level: 8/64 in CIFAR networks, 11/64 in others
    running_mean                   2**-6 * u
    running_var                    2**-5 + 2**-7 * u
    num_batches_tracked            0
    input image batch (NCHW)       2**-3 * u(1 << 20, i) + 2**-2 * u((1 << 20) + 1, i >> 8)
    label of image i               (7 * i + 3) % classes

The batch norms' biases keep most ReLU inputs two or three deviations away from zero, seven channels of eight above it and one
below. With biases around zero some inputs among millions lie within rounding of zero, ReLU's mask flips there from one
implementation to the next, and the gradients of two right implementations differ by percents. (Few flips are left, not none:
one of them changes some tensors by a few 1e-3.) Batch norms scale by about 1/16, so that convolutions, batch norms
and the classifier all move at one learning rate. The images carry stripes (the second term), which survive the pooling.

A model file holds the following; losses are means over the batch:

    model, classes, batch [n, c, h, w], bn_bias_level, labels
    description                   the network in TOML, if it has no name of its own
    eval_logits, train_logits     [n][classes], row by row in one list
    eval_loss, train_loss         {"smoothing_0": .., "smoothing_0.1": ..}: cross-entropy, label smoothing 0 and 0.1
    train_gradients               of train_loss (smoothing 0), by parameter name: {"index": t, "norm": ..,
                                  "entries": [16 values], "projections": [4 values]} (4 and 2 for families)
    frozen_gradients              the same of eval_loss (batch norms use their running statistics, gradients still flow)
    running                       statistics after ONE forward pass in train mode, by name: {"norm": .., "first": [4 values]}
    steps                         a list of two runs {"nesterov": bool, "lr", "momentum", "weight_decay", "losses": [10 values],
                                  "logits_norm", "class_stride": s, "eval_logits": classes 0, s, 2s, .. of every image}: ten
                                  SGD steps on the one batch in train mode, from the formula's weights; losses[k] is the loss
                                  before update k; the logits, in eval mode, come after the ten updates. Every
                                  parameter decays, and by enough (0.01) to be seen.
    deviation                     how far three other computations are from these float64 numbers, a measure of sane
                                  tolerances: "float32" (PyTorch), and float64 with noise on every convolution's output, as
                                  large as Winograd's error: 2e-6 of the output's root mean square ("noise_0", "noise_1")

    entry k of a gradient         the element splitmix64((t << 32) | (0xfeed0000 + k)) % numel
    projection k                  the sum over i of g[i] * s, s = +1 if bit k of hash(t, i) is set, else -1

An entry may be tiny by cancellation: compare entries with an error relative to norm / sqrt(numel), and projections with
one relative to norm.

`ops.json`, written to crates/kernels/tests/golden, holds single operations on tiny shapes; its tensors are u(t, i) with
t = (1 << 21) + 16 * case + role, where case is the operation's position in the list and role is 0 input, 1 weight, 2
bias, 3 gradient of the output, 4 running_mean. Exceptions: a batch norm's weight is 1 + 0.25 * u and its running_var
(role 5) is 2 + u; the logits of a cross-entropy are 3 * u, its labels are (7 * i + 3) % classes. Mixed targets are
(2 * i + 3) % classes with weight f32(0.3) and (5 * i + 1) % classes with the rest; soft ones are (1 + u) / 4 with role 1,
rows that do not sum to one; λ and the smoothing are float32. An optimiser's parameters have role 0, its gradient of step
k = 1, 2, .. has role k. All tensors are in torch's layout.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision

HERE = Path(__file__).resolve().parent
KERNELS = HERE.parents[2] / "kernels" / "tests" / "golden"
sys.path.insert(0, str(HERE.parents[3] / "bench" / "peers"))
from cifar_resnet import CifarResNet  # noqa: E402
from families import CLASSES, FAMILIES, in_order_of_computation  # noqa: E402

F32 = np.float32
LR = 0.01
# Networks in which convolutions or linear layers have no batch norm behind them diverge at that rate; in a GoogLeNet, 22
# layers deep without shortcuts, the rounding of float32 grows to 2e-4 in ten steps.
SMALLER_LR = {"vgg_bn": 0.001, "lecture_resnet": 0.001, "googlenet": 0.001}
STEPS = 10

MODELS = {
    "resnet20": (lambda: CifarResNet(20, "B"), (8, 3, 32, 32), 10, 8 / 64),
    "resnet20_a": (lambda: CifarResNet(20, "A"), (8, 3, 32, 32), 10, 8 / 64),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=1000), (4, 3, 64, 64), 1000, 11 / 64),
    "resnet50": (lambda: torchvision.models.resnet50(num_classes=1000), (4, 3, 64, 64), 1000, 11 / 64),
}


MODELS |= {name: (build, shape, CLASSES, 11 / 64) for name, (build, shape, _) in FAMILIES.items()}


# ---- the formula ------------------------------------------------------------------------------------------------------


def splitmix64(x):
    x = np.asarray(x, np.uint64)
    with np.errstate(over="ignore"):
        z = x + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def hashes(t, count):
    return splitmix64(np.uint64(t << 32) | np.arange(count, dtype=np.uint64))


def uniform(t, shape):
    bits = (hashes(t, math.prod(shape)) >> np.uint64(40)).astype(F32)
    return (bits * F32(2.0**-23) - F32(1)).reshape(shape)


def images(shape):
    count = math.prod(shape)
    stripes = uniform((1 << 20) + 1, (count // 256,)).repeat(256)
    return torch.from_numpy((F32(2**-3) * uniform(1 << 20, (count,)) + F32(2**-2) * stripes).reshape(shape))


def fill(model, level):
    """The formula's weights, as a state dict of float32 tensors."""
    state = model.state_dict()
    values = {}
    for t, name in enumerate(in_order_of_computation(state)):
        old = state[name]
        module = model.get_submodule(name.rpartition(".")[0])
        kind = name.rpartition(".")[2]
        u = uniform(t, tuple(old.shape))
        if kind == "num_batches_tracked":
            values[name] = torch.zeros((), dtype=torch.int64)
            continue
        if kind == "layer_scale":
            value = F32(2**-1) + F32(2**-3) * u
        elif isinstance(module, torch.nn.LayerNorm):
            value = F32(kind == "weight") + F32(2**-2) * u
        elif kind == "running_var":
            value = F32(2**-5) + F32(2**-7) * u
        elif kind == "running_mean":
            value = F32(2**-6) * u
        elif isinstance(module, torch.nn.BatchNorm2d) and kind == "weight":
            value = F32(2**-4) + F32(2**-6) * u
        elif isinstance(module, torch.nn.BatchNorm2d):
            value = np.where(np.arange(u.size) % 8 == 7, F32(-level), F32(level)) + F32(2**-6) * u
        else:
            fan_in = math.prod(module.weight.shape[1:])
            if kind == "bias":
                bound = 1 / math.sqrt(fan_in)
            elif isinstance(module, torch.nn.Linear):
                bound = 4 / math.sqrt(fan_in)
            else:
                bound = math.sqrt(6 / fan_in)
            value = u * F32(bound)
        assert value.dtype == F32
        values[name] = torch.from_numpy(value)
    return values


# ---- a model ----------------------------------------------------------------------------------------------------------


def add_noise(model, seed):
    """Adds errors of Winograd's size to the output of every convolution."""
    generator = torch.Generator().manual_seed(seed)

    def hook(_module, _inputs, y):
        rms = y.detach().square().mean().sqrt()
        return y + 2e-6 * rms * torch.randn(y.shape, generator=generator, dtype=y.dtype)

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(hook)


def run_model(name, dtype, noise_seed=None):
    """Everything a golden file stores, as full tensors."""
    build, shape, classes, level = MODELS[name]
    x = images(shape).to(dtype)
    labels = torch.tensor([(7 * i + 3) % classes for i in range(shape[0])])

    def fresh():
        model = build()
        model.load_state_dict(fill(model, level))
        if noise_seed is not None:
            add_noise(model, noise_seed)
        return model.to(dtype)

    out = {"labels": labels.tolist(), "steps": []}
    for mode, prefix in (("train", "train"), ("eval", "frozen")):
        model = fresh().train(mode == "train")
        logits = model(x)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        out[f"{mode}_logits"] = logits.detach()
        out[f"{mode}_loss"] = {
            "smoothing_0": loss.item(),
            "smoothing_0.1": F.cross_entropy(logits, labels, label_smoothing=0.1).item(),
        }
        out[f"{prefix}_gradients"] = {k: p.grad.detach().clone() for k, p in model.named_parameters()}
        if mode == "train":
            out["running"] = {k: v.clone() for k, v in model.state_dict().items() if ".running_" in k}

    for nesterov in (True, False):
        model = fresh().train()
        settings = {"lr": SMALLER_LR.get(name, LR), "momentum": 0.9, "weight_decay": 0.01}
        optimizer = torch.optim.SGD(model.parameters(), nesterov=nesterov, **settings)
        losses = []
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        with torch.no_grad():
            logits = model.eval()(x)
        out["steps"].append({"nesterov": nesterov, **settings, "losses": losses, "logits": logits})
    return out


def relative(got, truth):
    """Relative L2 error of one tensor."""
    return ((got.double() - truth).norm() / truth.norm()).item()


def deviation(single, double):
    """How far `single` is from the truth in `double`."""
    report = {}
    for key in ("eval_logits", "train_logits"):
        report[key] = relative(single[key], double[key])
    for key in ("eval_loss", "train_loss"):
        report[key] = max(abs(single[key][s] - v) / abs(v) for s, v in double[key].items())
    for key in ("train_gradients", "frozen_gradients"):
        pairs = [(single[key][name].double(), g) for name, g in double[key].items()]
        report[f"{key}_norm_worst"] = max(abs((a.norm() / b.norm()).item() - 1) for a, b in pairs)
        report[f"{key}_tensor_worst"] = max(relative(a, b) for a, b in pairs)
    report["running_worst"] = max((relative(single["running"][k], v) for k, v in double["running"].items()), default=0)
    for a, b in zip(single["steps"], double["steps"]):
        suffix = "nesterov" if b["nesterov"] else "plain"
        report[f"losses_{suffix}_worst"] = max(abs(p - q) / abs(q) for p, q in zip(a["losses"], b["losses"]))
        report[f"logits_after_{suffix}"] = relative(a["logits"], b["logits"])
    return report


def summarise(t, gradient, entries, projections):
    g = gradient.numpy().astype(np.float64).ravel()
    k = np.arange(entries, dtype=np.uint64)
    entries = splitmix64(np.uint64(t << 32) | (np.uint64(0xFEED0000) + k)) % np.uint64(g.size)
    bits = hashes(t, g.size)
    signs = [np.where((bits >> np.uint64(k)) & np.uint64(1), 1.0, -1.0) for k in range(projections)]
    return {
        "index": t,
        "norm": float(np.sqrt((g * g).sum())),
        "entries": g[entries].tolist(),
        "projections": [float((g * s).sum()) for s in signs],
    }


def model_file(name):
    build, shape, classes, level = MODELS[name]
    double = run_model(name, torch.float64)
    others = {"float32": run_model(name, torch.float32)}
    others |= {f"noise_{seed}": run_model(name, torch.float64, seed) for seed in (0, 1)}
    index = {key: t for t, key in enumerate(in_order_of_computation(build().state_dict()))}
    description = {"description": FAMILIES[name][2]} if name in FAMILIES else {}
    out = {"model": name, **description, "classes": classes, "batch": list(shape), "bn_bias_level": level}
    out["labels"] = double["labels"]
    for mode in ("eval", "train"):
        out[f"{mode}_loss"] = double[f"{mode}_loss"]
        out[f"{mode}_logits"] = double[f"{mode}_logits"].flatten().tolist()
    for key in ("train_gradients", "frozen_gradients"):
        kept = (4, 2) if name in FAMILIES else (16, 4)
        out[key] = {p: summarise(index[p], g, *kept) for p, g in double[key].items()}
    out["running"] = {k: {"norm": v.norm().item(), "first": v[:4].tolist()} for k, v in double["running"].items()}
    stride = 10 if classes > 100 else 1
    out["steps"] = []
    for run in double["steps"]:
        logits = run["logits"]
        settings = {k: v for k, v in run.items() if k != "logits"}
        kept = {"class_stride": stride, "eval_logits": logits[:, ::stride].flatten().tolist()}
        out["steps"].append({**settings, "logits_norm": logits.norm().item(), **kept})
    out["deviation"] = {key: deviation(other, double) for key, other in others.items()}

    print(f"{name}: train loss {double['train_loss']}, eval loss {double['eval_loss']}")
    for key in ("train_logits", "eval_logits"):
        v = double[key]
        print(f"  {key}: deviation {v.std():.3f}, between images {v.std(0).mean():.3f}")
    for run in out["steps"]:
        print(f"  nesterov={run['nesterov']} losses", " ".join(f"{v:.4f}" for v in run["losses"]))
    print(f"  {'relative deviation':30}", *out["deviation"])
    for key in out["deviation"]["float32"]:
        print(f"  {key:30}", *(f"{d[key]:.1e}" for d in out["deviation"].values()))
    return out


# ---- single operations ------------------------------------------------------------------------------------------------


def ops_file():
    cases = []

    def tensor(role, shape):
        t = (1 << 21) + 16 * len(cases) + role
        return torch.from_numpy(uniform(t, tuple(shape))).double()

    def leaf(value):
        return value.clone().requires_grad_()

    def add(op, settings, y, leaves):
        """Stores the output and, for an output gradient of role 3, the gradients of the leaves."""
        y.backward(tensor(3, y.shape) if y.dim() else None)
        case = {"op": op, **settings, "output_shape": list(y.shape), "output": y.detach().flatten().tolist()}
        for name, value in leaves.items():
            case[f"grad_{name}"] = value.grad.flatten().tolist()
        cases.append(case)
        return case

    conv = [  # input NCHW, weight OIHW, stride, padding, dilation, groups
        ((2, 3, 5, 6), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
        ((1, 3, 9, 9), (2, 3, 7, 7), (2, 2), (3, 3), (1, 1), 1),
        ((2, 4, 5, 5), (6, 4, 1, 1), (2, 2), (0, 0), (1, 1), 1),
        ((1, 2, 7, 7), (3, 2, 3, 3), (1, 1), (2, 2), (2, 2), 1),
        ((1, 2, 8, 7), (3, 2, 3, 3), (2, 2), (2, 2), (2, 2), 1),
        ((2, 4, 5, 4), (6, 2, 3, 3), (1, 1), (1, 1), (1, 1), 2),
        ((1, 4, 6, 6), (4, 1, 3, 3), (2, 2), (1, 1), (1, 1), 4),
        ((1, 3, 5, 6), (2, 3, 1, 3), (2, 1), (0, 1), (1, 1), 1),
        ((1, 2, 5, 7), (2, 2, 3, 2), (1, 3), (2, 0), (1, 2), 1),
    ]
    for shape, weight, stride, padding, dilation, groups in conv:
        x, w, b = leaf(tensor(0, shape)), leaf(tensor(1, weight)), leaf(tensor(2, weight[:1]))
        settings = {"input_shape": shape, "weight_shape": weight, "stride": stride, "padding": padding}
        settings |= {"dilation": dilation, "groups": groups}
        y = F.conv2d(x, w, b, stride, padding, dilation, groups)
        add("conv2d", settings, y, {"input": x, "weight": w, "bias": b})

    for kernel, stride, padding, counted in ((3, 2, 1, True), (3, 2, 1, False), (2, 2, 0, True), (3, 1, 1, False)):
        x = leaf(tensor(0, (1, 2, 6, 5)))
        settings = {"input_shape": x.shape, "kernel": kernel, "stride": stride, "padding": padding}
        y = F.avg_pool2d(x, kernel, stride, padding, False, counted)
        add("avg_pool2d", {**settings, "count_include_pad": counted}, y, {"input": x})

    for shape in ((2, 2, 6, 6), (1, 2, 7, 5)):
        x = leaf(tensor(0, shape))
        y = F.max_pool2d(x, 3, 2, 1)
        add("max_pool2d", {"input_shape": shape, "kernel": 3, "stride": 2, "padding": 1}, y, {"input": x})

    for training in (True, False):
        shape = (3, 4, 3, 2)
        x, w, b = leaf(tensor(0, shape)), leaf(1 + 0.25 * tensor(1, (4,))), leaf(tensor(2, (4,)))
        w.data = w.data.float().double()
        mean, var = tensor(4, (4,)), (tensor(5, (4,)) + 2).float().double()
        y = F.batch_norm(x, mean, var, w, b, training, 0.1, 1e-5)
        settings = {"input_shape": shape, "training": training, "momentum": 0.1, "eps": 1e-5}
        case = add("batch_norm", settings, y, {"input": x, "weight": w, "bias": b})
        case |= {"running_mean": mean.tolist(), "running_var": var.tolist()}

    for smoothing in (0.0, 0.1):
        x = leaf(3 * tensor(0, (4, 7)))
        x.data = x.data.float().double()
        labels = torch.tensor([(7 * i + 3) % 7 for i in range(4)])
        y = F.cross_entropy(x, labels, label_smoothing=smoothing)
        add("cross_entropy", {"input_shape": (4, 7), "smoothing": smoothing}, y, {"input": x})

    shape = images, classes = (5, 7)
    for kind in ("mixed", "soft"):
        for smoothing in (0.0, float(F32(0.1))):
            x = leaf(3 * tensor(0, shape))
            x.data = x.data.float().double()
            if kind == "mixed":
                share = float(F32(0.3))
                a = torch.tensor([(2 * i + 3) % classes for i in range(images)])
                b = torch.tensor([(5 * i + 1) % classes for i in range(images)])
                targets = share * F.one_hot(a, classes).double() + (1 - share) * F.one_hot(b, classes).double()
            else:
                targets = (1 + tensor(1, shape)) / 4
            y = F.cross_entropy(x, targets, label_smoothing=smoothing)
            add(f"cross_entropy_{kind}", {"input_shape": shape, "smoothing": smoothing}, y, {"input": x})

    for numel, lr, beta1, beta2, eps, weight_decay in (
        (1, 0.01, 0.9, 0.999, 1e-8, 0.01),
        (37, 0.003, 0.9, 0.999, 1e-8, 0.05),
        (70, 0.1, 0.8, 0.95, 1e-3, 0.0),
    ):
        x = leaf(tensor(0, (numel,)))
        optimizer = torch.optim.AdamW([x], lr, (beta1, beta2), eps, weight_decay)
        values = {}
        for step in range(1, STEPS + 1):
            x.grad = tensor(step, (numel,))
            optimizer.step()
            values[step] = x.detach().clone()
        case = {"op": "adamw", "numel": numel, "lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps}
        case |= {"weight_decay": weight_decay, "steps": STEPS, "first": values[1].tolist(), "last": values[STEPS].tolist()}
        cases.append(case)
    return {"cases": cases}


# ---- writing ----------------------------------------------------------------------------------------------------------


def nine_digits(value):
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a golden number is not finite")
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {k: nine_digits(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [nine_digits(v) for v in value]
    return value


def lines(value, depth):
    """JSON with one line for each item down to `depth`, so that a change shows in a diff."""
    if depth == 0 or not isinstance(value, (dict, list)) or (isinstance(value, list) and not isinstance(value[0], dict)):
        return json.dumps(value, separators=(",", ":"))
    if isinstance(value, dict):
        return "{\n" + ",\n".join(f"{json.dumps(k)}:{lines(v, depth - 1)}" for k, v in value.items()) + "\n}"
    return "[\n" + ",\n".join(lines(v, depth - 1) for v in value) + "\n]"


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in sys.argv[1:] or [*MODELS, "ops"]:
        content = ops_file() if name == "ops" else model_file(name)
        path = (KERNELS if name == "ops" else HERE) / f"{name}.json"
        path.write_text(lines(nine_digits(content), 2) + "\n")
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
