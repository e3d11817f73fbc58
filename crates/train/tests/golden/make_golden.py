"""Writes the golden files beside this script: what PyTorch makes of ten or twenty training steps, computed in float64.

    python make_golden.py [RUN …]    (needs torch, timm, safetensors; all runs, or these)

The files, all values rounded to float32 at the end:

    small.toml               the network, as `--model` takes it; written by hand
    images.safetensors       24 normalised images N x C x H x W and their labels, as `--data` takes them
    initial.safetensors      the state dict that every run starts from, as `--weights` takes it
    pruned_initial.safetensors  the same with zeros, from which the run "pruned" starts
    teacher.safetensors      the state dict of the teacher of the distillations
    runs.json                for every run its recipe (TOML, without model, data and weights), the learning rate of every step and
                             the loss of every batch before the step that it is part of
    RUN.safetensors          the state dict after the last step

The batches are the images in their order, again and again: no shuffle, no augmentation. The parameter groups (layer-wise
learning rates, no weight decay for parameters of one dimension) come from timm's `param_groups_layer_decay`; the head's
group is multiplied by `head_lr_mult`. The learning rate before group factors is

    step t < warmup          lr * (t + 1) / warmup
    later                    min_lr + (lr - min_lr) / 2 * (1 + cos(pi * (t - warmup) / (steps - warmup)))

Optimisers are torch's, or timm's where torch has none, with the defaults of timm's `create_optimizer_v2`. Muon is torch's on the
weights of convolutions, flattened to matrices, and AdamW on the rest; torch computes its iteration in bfloat16, this script in
float64 (`newton_schulz`), and it prints how far the two are apart.

The teacher is a network of the same kind in evaluation mode. Distillation is that of arXiv:1503.02531, (1 - alpha) times the
cross-entropy plus alpha T^2 times the divergence, or of arXiv:2203.08679 with the warm-up of mdistiller, whose epochs count from 1,
or it adds beta times the distances of the feature maps at the ends of the stages (arXiv:1412.6550) or of their attention maps
(arXiv:1612.03928).

Pruning is torch's `l1_unstructured` of every convolution before the first step, whose masks apply until the end.

Gradient accumulation is what torch's users write: `(loss / accumulate).backward()` for each batch, then clip, then step;
batch norms update their statistics in every forward pass.

The batch norms' biases keep most ReLU inputs away from zero, as in engine/tests/golden/make_golden.py, so that two right
implementations do not differ by a ReLU mask. The script prints how far a float32 run of PyTorch is from the float64 one, and
how far leaving out each setting moves the result: a tolerance must lie between the two, and the script ends with an error if
`TOLERANCE`, which the test uses, does not.
"""

import inspect
import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
import torch.optim._muon
from safetensors.torch import save_file
from timm.loss import BinaryCrossEntropy
from timm.optim import Lamb, Lion, RMSpropTF, param_groups_layer_decay
from timm.utils import dispatch_clip_grad
from torch import nn
from torch.nn.utils import prune

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[3] / "bench" / "peers"))
from cifar_resnet import Block  # noqa: E402

CLASSES, SIDE, IMAGES = 10, 12, 24
# Relative to the norm of a tensor's change over the whole run.
TOLERANCE = 5e-4

# What a run does not set is as COMMON has it, or off.
RUNS = {
    # Everything decays; per-layer rates.
    "sgd": dict(
        lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.02, smoothing=0.1, layer_decay=0.75, head_lr_mult=0.5
    ),
    # The same, but norms and biases do not decay.
    "sgd_groups": dict(
        lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.02, smoothing=0.1, layer_decay=0.75, head_lr_mult=0.5,
        decay_norm_bias=False, steps=10,
    ),
    "adamw": dict(opt="adamw", lr=0.01, weight_decay=0.05, smoothing=0.1),
    "adam": dict(opt="adam", lr=0.01, weight_decay=0.05),
    "nadam": dict(opt="nadam", lr=0.005, weight_decay=0.02, smoothing=0.1),
    # Gradients of some steps are above the norm that LAMB clips at, of others below.
    "lamb": dict(opt="lamb", lr=0.06, weight_decay=0.02),
    "rmsprop": dict(opt="rmsprop", lr=0.002, min_lr=5e-4, momentum=0.9, weight_decay=0.05),
    "rmsproptf": dict(opt="rmsproptf", lr=0.005, momentum=0.9, weight_decay=0.05),
    "lion": dict(opt="lion", lr=0.001, min_lr=2e-4, weight_decay=0.5),
    "muon": dict(opt="muon", lr=0.02, momentum=0.95, weight_decay=0.1, scale=0.5),
    "accumulated": dict(lr=0.1, momentum=0.9, weight_decay=0.02, batch_size=4, accumulate=2, clip=2.0, steps=10),
    "binary": dict(lr=0.02, momentum=0.9, weight_decay=0.02, smoothing=0.1, loss="binary", steps=10),
    "balanced": dict(lr=0.1, momentum=0.9, weight_decay=0.02, smoothing=0.1, loss="balanced", steps=10),
    # Two epochs of warm-up are six steps.
    "kd": dict(lr=0.05, momentum=0.9, smoothing=0.1, loss="kd", temperature=3.0, kd_alpha=0.6, steps=10),
    "dkd": dict(lr=0.02, momentum=0.9, loss="dkd", temperature=4.0, kd_alpha=1.5, beta=4.0, kd_warmup=2, steps=10),
    "fitnet": dict(lr=0.01, momentum=0.9, smoothing=0.1, loss="fitnet", beta=2.0, steps=10),
    "at": dict(lr=0.05, momentum=0.9, loss="at", beta=300.0, temperature=4.0, kd_alpha=0.3, steps=10),
    "clipped_values": dict(lr=0.05, momentum=0.9, clip=0.05, clip_mode="value", smoothing=0.1, steps=10),
    "clipped_units": dict(lr=0.1, momentum=0.9, clip=0.2, clip_mode="agc"),
    # Half of every convolution's weights stay zero, and have no part in the norm of the gradient.
    "pruned": dict(lr=0.1, momentum=0.9, weight_decay=0.02, clip=2.0, prune=0.5, steps=10),
}
DISTILLATIONS = ("kd", "dkd", "fitnet", "at")
COMMON = dict(batch_size=8, warmup=3, min_lr=0.002, steps=20)


class Small(nn.Module):
    """small.toml."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(Block(8, 8, 1, "B"))
        self.layer2 = nn.Sequential(Block(8, 8, 2, "B"))
        self.layer3 = nn.Sequential(Block(8, 16, 2, "B"))
        self.fc = nn.Linear(16, CLASSES)

    def maps(self, x):
        """The feature maps at the ends of the stages."""
        maps = [F.relu(self.bn1(self.conv1(x)))]
        for stage in (self.layer1, self.layer2, self.layer3):
            maps.append(stage(maps[-1]))
        return maps[1:]

    def forward(self, x):
        return self.fc(self.maps(x)[-1].mean((2, 3)))

    def group_matcher(self, coarse=False):
        """timm's, of its ResNet."""
        return dict(stem=r"^conv1|bn1|maxpool", blocks=r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)")


def initial(seed=7):
    generator = torch.Generator().manual_seed(seed)

    def uniform(shape):
        return 2 * torch.rand(shape, generator=generator) - 1

    model = Small()
    state = model.state_dict()
    for name, old in state.items():
        module = model.get_submodule(name.rpartition(".")[0])
        kind = name.rpartition(".")[2]
        if kind == "num_batches_tracked":
            continue
        u = uniform(old.shape)
        if isinstance(module, nn.Conv2d):
            u *= math.sqrt(6 / math.prod(old.shape[1:]))
        elif isinstance(module, nn.Linear):
            u *= (4 if kind == "weight" else 1) / math.sqrt(module.in_features)
        elif kind == "weight":
            u = 0.25 + 0.06 * u
        elif kind == "bias":
            u = torch.where(torch.arange(u.numel()) % 8 == 7, -0.5, 0.5) + 0.06 * u
        elif kind == "running_mean":
            u *= 0.1
        else:
            u = 1 + 0.25 * u
        state[name] = u
    return state


def dataset():
    generator = torch.Generator().manual_seed(2)
    images = 0.5 * torch.randn((IMAGES, 3, SIDE, SIDE), generator=generator)
    # A level of its own for every image and channel, which survives the pooling.
    images += torch.randn((IMAGES, 3, 1, 1), generator=generator)
    return images, torch.tensor([(7 * index + 3) % CLASSES for index in range(IMAGES)])


def newton_schulz():
    """Torch's iteration, in the type of the gradient."""
    source = inspect.getsource(torch.optim._muon._zeropower_via_newtonschulz)
    assert source.count("dtype=torch.bfloat16") == 1
    scope = vars(torch.optim._muon).copy()
    exec(source.replace("dtype=torch.bfloat16", "dtype=grad.dtype"), scope)  # noqa: S102
    return scope["_zeropower_via_newtonschulz"]


BFLOAT16 = torch.optim._muon._zeropower_via_newtonschulz
EXACT = newton_schulz()


class Muon:
    """Torch's Muon on the weights of convolutions, as matrices; AdamW on the rest."""

    def __init__(self, groups, run):
        torch.optim._muon._zeropower_via_newtonschulz = BFLOAT16 if run.get("bfloat16") else EXACT
        self.matrices, matrices, others = [], [], []
        for group in groups:
            rest = []
            for parameter in group["params"]:
                if parameter.ndim != 4:
                    rest.append(parameter)
                    continue
                matrix = nn.Parameter(parameter.data.flatten(1))
                assert matrix.data_ptr() == parameter.data_ptr()
                self.matrices.append((parameter, matrix))
                matrices.append(dict(params=[matrix], weight_decay=group["weight_decay"], lr_scale=1.0))
            others.append(group | dict(params=rest, lr_scale=run.get("scale", 1.0)))
        self.rules = [
            torch.optim.Muon(
                matrices, lr=run["lr"], momentum=run["momentum"], nesterov=run.get("nesterov", True),
                adjust_lr_fn=run.get("adjust", "match_rms_adamw"),
            ),
            torch.optim.AdamW(others, lr=run["lr"], betas=run.get("betas", (0.9, 0.95)), eps=1e-7),
        ]  # fmt: skip

    @property
    def param_groups(self):
        return [group for rule in self.rules for group in rule.param_groups]

    def zero_grad(self):
        for parameter, matrix in self.matrices:
            parameter.grad = matrix.grad = None
        self.rules[1].zero_grad()

    def step(self):
        for parameter, matrix in self.matrices:
            matrix.grad = parameter.grad.flatten(1)
        for rule in self.rules:
            rule.step()


def optimizer(model, run):
    """As the run says, with groups that hold their `lr_scale`."""
    opt = run.get("opt", "sgd")
    groups = param_groups_layer_decay(
        model,
        weight_decay=run.get("weight_decay", 0.0),
        weight_decay_exclude_1d=not run.get("decay_norm_bias", opt == "sgd"),
        layer_decay=run.get("layer_decay", 1.0),
    )
    head = {id(parameter) for parameter in model.fc.parameters()}
    for group in groups:
        inside = [id(parameter) in head for parameter in group["params"]]
        # With a decay of one all layers share a group; no run has that and another rate for the head.
        if run.get("head_lr_mult", 1.0) != 1.0:
            assert all(inside) or not any(inside)
            group["lr_scale"] *= run["head_lr_mult"] if all(inside) else 1.0
    lr, momentum = run["lr"], run.get("momentum", 0.0)
    betas = {"betas": run["betas"]} if "betas" in run else {}
    match opt:
        case "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=run.get("nesterov", False))
        case "adam":
            return torch.optim.Adam(groups, lr=lr, **betas)
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, **betas, eps=run.get("eps", 1e-8))
        case "nadam":
            return torch.optim.NAdam(groups, lr=lr, **betas)
        case "lamb":
            return Lamb(groups, lr=lr, max_grad_norm=run.get("max_grad_norm", 1.0), **betas)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=lr, alpha=run.get("alpha", 0.9), momentum=momentum)
        case "rmsproptf":
            return RMSpropTF(groups, lr=lr, alpha=run.get("alpha", 0.9), momentum=momentum)
        case "lion":
            return Lion(groups, lr=lr, **betas)
        case "muon":
            return Muon(groups, run)
    raise ValueError(opt)


def clip(model, run):
    """Clips the gradients as the run says; returns the norm of all of them before."""
    parameters = list(model.parameters())
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters]).item()
    mode = run.get("clip_mode", "norm")
    # As timm's training script excludes the head.
    dispatch_clip_grad(parameters[:-2] if mode == "agc" else parameters, run.get("clip", math.inf), mode)
    return norm


def learning_rate(run, step):
    lr, warmup, least = run["lr"], run["warmup"], run["min_lr"]
    if step < warmup:
        return lr * (step + 1) / warmup
    return least + (lr - least) / 2 * (1 + math.cos(math.pi * (step - warmup) / (run["steps"] - warmup)))


def teacher(dtype):
    model = Small()
    model.load_state_dict(initial(8))
    return model.to(dtype).eval()


def divergence(p, q):
    """KL(p || q), the mean over rows."""
    return F.kl_div(q.log(), p, reduction="batchmean")


def attention(x):
    return F.normalize(x.pow(2).mean(1).flatten(1))


def distilled(run, model, other, images, labels, epoch):
    """The loss against labels and a teacher; epochs count from 1."""
    maps = model.maps(images)
    with torch.no_grad():
        other_maps = other.maps(images)
    logits, taught = (net.fc(of[-1].mean((2, 3))) for net, of in ((model, maps), (other, other_maps)))
    taught = taught.detach()
    t, alpha = run.get("temperature", 4.0), run.get("kd_alpha", 0.0)
    cross_entropy = F.cross_entropy(logits, labels, label_smoothing=run.get("smoothing", 0.0))
    p, q = (x.div(t).softmax(1) for x in (taught, logits))
    if run["loss"] != "dkd":
        loss = (1 - alpha) * cross_entropy + alpha * run.get("scale", t * t) * divergence(p, q)
        pairs = zip(maps, other_maps, strict=True)
        match run["loss"]:
            case "fitnet":
                loss += run["beta"] * sum(F.mse_loss(a, b) for a, b in pairs)
            case "at":
                loss += run["beta"] * sum((attention(a) - attention(b)).pow(2).mean() for a, b in pairs)
        return loss
    target = F.one_hot(labels, CLASSES).bool()
    others = [x[~target].view(len(labels), -1) for x in (p, q)]
    two = [torch.stack([x[target], 1 - x[target]], 1) for x in (p, q)]
    nckd = divergence(*(x / x.sum(1, keepdim=True) for x in others))
    weight = min(epoch / run["kd_warmup"], 1.0)
    return cross_entropy + weight * t * t * (alpha * divergence(*two) + run["beta"] * nckd)


def objective(run, logits, labels):
    """Binary cross-entropy summed over classes, or cross-entropy, for "balanced" with the weights of scikit-learn's balanced."""
    smoothing = run.get("smoothing", 0.0)
    kind = run.get("loss")
    if kind == "binary":
        return BinaryCrossEntropy(smoothing, sum_classes=True)(logits, labels)
    _, all_labels = dataset()
    weights = IMAGES / (CLASSES * torch.bincount(all_labels, minlength=CLASSES).to(logits.dtype))
    weights = weights if kind == "balanced" else None
    return F.cross_entropy(logits, labels, weights, label_smoothing=smoothing)


def masked(model, amount):
    """Prunes the convolutions of a model; returns them."""
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)] if amount else []
    for convolution in convolutions:
        prune.l1_unstructured(convolution, "weight", amount)
    return convolutions


def pruned(state, amount):
    """The state dict after pruning."""
    model = Small()
    model.load_state_dict(state)
    for convolution in masked(model, amount):
        prune.remove(convolution, "weight")
    return model.state_dict()


def train(run, dtype, noise_seed=None):
    run = COMMON | run
    model = Small()
    model.load_state_dict(initial())
    model.to(dtype).train()
    convolutions, masks = masked(model, run.get("prune")), []
    if "masks" in run:
        masks = [(convolution, convolution.weight_mask) for convolution in convolutions if run["masks"] == "after"]
        for convolution in convolutions:
            prune.remove(convolution, "weight")
        convolutions = []
    if noise_seed is not None:
        add_noise(model, noise_seed)
    images, labels = dataset()
    images, size, accumulate = images.to(dtype), run["batch_size"], run.get("accumulate", 1)
    rule, other = optimizer(model, run), teacher(dtype)
    rates, losses, norms, batch = [], [], [], 0
    for step in range(run["steps"]):
        rates.append(learning_rate(run, step))
        for group in rule.param_groups:
            group["lr"] = rates[-1] * group["lr_scale"]
        rule.zero_grad()
        for _ in range(accumulate):
            rows = slice(batch * size % IMAGES, batch * size % IMAGES + size)
            if run.get("loss") in DISTILLATIONS:
                loss = distilled(run, model, other, images[rows], labels[rows], 1 + batch * size // IMAGES)
            else:
                loss = objective(run, model(images[rows]), labels[rows])
            batch += 1
            (loss / accumulate).backward()
            losses.append(loss.item())
        norms.append(clip(model, run))
        rule.step()
        for convolution, mask in masks:
            convolution.weight.data *= mask
    for convolution in convolutions:
        prune.remove(convolution, "weight")
    return dict(lr=rates, losses=losses, norms=norms, state=model.state_dict())


def add_noise(model, seed):
    """Adds errors of Winograd's size to the output of every convolution."""
    generator = torch.Generator().manual_seed(seed)

    def hook(_module, _inputs, y):
        rms = y.detach().square().mean().sqrt()
        return y + 2e-6 * rms * torch.randn(y.shape, generator=generator, dtype=y.dtype)

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(hook)


def distances(got, truth, amount=None):
    """Of each tensor's change, relative to its norm."""
    start = pruned(initial(), amount)
    for name, value in truth["state"].items():
        if value.dtype.is_floating_point:
            change = (value - start[name]).norm().item()
            yield (got["state"][name].double() - value).norm().item() / change, name


def recipe(run):
    """The run as a recipe's TOML."""
    run = COMMON | run
    lines = {
        "batch_size": run["batch_size"],
        "shuffle": False,
        "max_steps": run["steps"],
        "lr": run["lr"],
        "weight_decay": run.get("weight_decay", 0.0),
        "smoothing": run.get("smoothing", 0.0),
        "sched": "cosine",
        "min_lr": run["min_lr"],
        "warmup_steps": run["warmup"],
        "layer_decay": run.get("layer_decay", 1.0),
        "head_lr_mult": run.get("head_lr_mult", 1.0),
        "log_every": 1,
    }
    opt = run.get("opt", "sgd")
    if opt != "sgd":
        lines["opt"] = opt
    if "momentum" in run:
        lines["momentum"] = run["momentum"]
    if "nesterov" in run:
        lines["nesterov"] = run["nesterov"]
    if "scale" in run:
        lines["fallback_lr_scale"] = run["scale"]
    if "decay_norm_bias" in run:
        lines["decay_norm_bias"] = run["decay_norm_bias"]
    match run.get("loss"):
        case "binary":
            lines |= {"bce_loss": True, "bce_sum": True}
        case "balanced":
            lines["class_weights"] = "balanced"
        case kind if kind in DISTILLATIONS:
            lines |= {"teacher": ["teacher.safetensors"], "kd_loss": kind}
            names = {
                "temperature": "kd_temperature", "kd_alpha": "kd_alpha", "beta": "kd_beta", "kd_warmup": "kd_warmup_epochs",
            }  # fmt: skip
            lines |= {names[key]: value for key, value in run.items() if key in names}
    if "clip" in run:
        lines["clip_grad"] = run["clip"]
    if "clip_mode" in run:
        lines["clip_mode"] = run["clip_mode"]
    if "accumulate" in run:
        lines["grad_accum_steps"] = run["accumulate"]
    if "prune" in run:
        lines |= {"weights": "pruned_initial.safetensors", "keep_zeros": True}
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())


def without(run):
    """The run with one setting left out, one after the other."""
    off = {
        "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "smoothing": 0.0, "layer_decay": 1.0,
        "head_lr_mult": 1.0, "clip": math.inf, "loss": None,
    }  # fmt: skip
    for key, value in off.items():
        if run.get(key, value) != value:
            others = {"nesterov": False} if key == "momentum" else {}
            # The head's rate needs groups of its own.
            others |= {"head_lr_mult": 1.0} if key == "layer_decay" else {}
            yield key, run | {key: value} | others
    if run.get("weight_decay", 0.0) > 0.0:
        decays = run.get("decay_norm_bias", run.get("opt", "sgd") == "sgd")
        yield "decay_norm_bias", run | {"decay_norm_bias": not decays}
    yield "warmup", run | {"warmup": 0}
    yield "min_lr", run | {"min_lr": 0.0}
    opt = run.get("opt", "sgd")
    betas = {"adam": (0.9, 0.999), "adamw": (0.9, 0.999), "nadam": (0.9, 0.999), "lamb": (0.9, 0.999), "lion": (0.9, 0.99),
             "muon": (0.9, 0.95)}  # fmt: skip
    if opt in betas:
        first, second = betas[opt]
        yield "betas[0]", run | {"betas": (first - 0.1, second)}
        yield "betas[1]", run | {"betas": (first, second - 0.05)}
    if opt in ("rmsprop", "rmsproptf"):
        yield "alpha", run | {"alpha": 0.99}
    if opt == "lamb":
        yield "max_grad_norm", run | {"max_grad_norm": None}
    if opt == "muon":
        yield "nesterov", run | {"nesterov": False}
        yield "scale", run | {"scale": 1.0}
        yield "adjust", run | {"adjust": "original"}
    for key, other in {"temperature": 2.0, "kd_alpha": 0.9, "beta": 1.0, "kd_warmup": 1}.items():
        if key in run:
            yield key, run | {key: other}
    if "prune" in run:
        # Zeros that are trained, and zeros that are set again after every step but have a part in the norm.
        for masks in ("none", "after"):
            yield f"masks, {masks}", run | {"masks": masks}
    if run.get("loss") == "kd":
        yield "scale", run | {"scale": 1.0}
    others = {"adamw": "adam", "nadam": "adam", "lamb": "adamw", "rmsprop": "rmsproptf"}
    if opt in others:
        yield f"{opt}, with {others[opt]}", run | {"opt": others[opt]}


def report(name, run, truth):
    print(f"{name}: losses", *(f"{loss:.4f}" for loss in truth["losses"]))
    print(f"  norms of the gradient: {min(truth['norms']):.3f} to {max(truth['norms']):.3f}")
    if "clip" in run and "clip_mode" not in run:
        assert min(truth["norms"]) < 0.9 * run["clip"] < 1.1 * run["clip"] < max(truth["norms"]), truth["norms"]
    if run.get("opt") == "lamb":
        assert min(truth["norms"]) < 0.95 < 1.05 < max(truth["norms"]), truth["norms"]
    if run.get("opt") == "muon":
        error, worst = max(distances(train(run | {"bfloat16": True}, torch.float64), truth))
        print(f"  bfloat16 moves {worst} by {error:.1e}")
    failed = False
    rounding = [train(run, torch.float32)] + [train(run, torch.float64, seed) for seed in range(4)]
    for other in rounding:
        error, worst = max(distances(other, truth, run.get("prune")))
        print(f"  rounding moves {worst} by {error:.1e}")
        failed = failed or error >= TOLERANCE / 10
    for what, other in without(run):
        error, worst = max(distances(train(other, torch.float64), truth, run.get("prune")))
        print(f"  without {what}: {worst} by {error:.1e}")
        failed = failed or error <= 10 * TOLERANCE
    if failed:
        sys.exit(f"{name}: TOLERANCE does not tell it from its variants")


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


def write_json(path, content):
    """One line for each item of an item, so that a change shows in a diff."""
    entries = []
    for key, value in nine_digits(content).items():
        lines = ",\n".join(f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in value.items())
        entries.append(f"{json.dumps(key)}:{{\n{lines}\n}}")
    path.write_text("{\n" + ",\n".join(entries) + "\n}\n")


def narrow(state):
    return {key: (value.float() if value.is_floating_point() else value).contiguous() for key, value in state.items()}


def runs(names):
    path = HERE / "runs.json"
    content = json.loads(path.read_text()) if names else {}
    for name in names or RUNS:
        run = RUNS[name]
        truth = train(run, torch.float64)
        report(name, run, truth)
        save_file(narrow(truth["state"]), HERE / f"{name}.safetensors")
        content[name] = {"recipe": recipe(run), "lr": truth["lr"], "losses": truth["losses"]}
    images, labels = dataset()
    save_file({"images": images, "labels": labels}, HERE / "images.safetensors")
    save_file(narrow(initial()), HERE / "initial.safetensors")
    save_file(narrow(pruned(initial(), RUNS["pruned"]["prune"])), HERE / "pruned_initial.safetensors")
    save_file(narrow(initial(8)), HERE / "teacher.safetensors")
    write_json(path, {name: content[name] for name in RUNS})


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    runs(sys.argv[1:])
    for path in HERE.iterdir():
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
