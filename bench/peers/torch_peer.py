"""Times PyTorch and ONNX Runtime on residual networks, in every form in which they are fast.

    python torch_peer.py infer --model resnet50 --batch 1 --threads 2 --repeats 20
    python torch_peer.py train --model resnet20 --batch 128 --size 32 --threads 2 --repeats 20

prints one JSON line a variant. With `--variant NAME --serve` it prepares that variant, prints one line
`{"ready": {...}}`, and then answers each line `run N` on stdin with `{"ms": [N times]}` on stdout and each line
`logits FILE.npy` with `{"logits": [N rows]}`, until `quit` or the end of input. That protocol is what `../compare.py`
alternates contenders with. Weights and input are random unless `--weights` (a torch state dict) and `--input` (f32, normalised)
name files.

A training iteration is a whole step: zero_grad, forward, loss, backward and an SGD update with momentum.
"""

import argparse
import io
import json
import os
import statistics
import sys
import time
import warnings

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import numpy
import torch
import torch.nn.functional as F
import torchvision
from cifar_resnet import CifarResNet


def build(name):
    """The model, its number of classes and its usual image side."""
    if name in ("resnet20", "resnet56", "resnet20_a", "resnet56_a"):
        depth, _, option = name.removeprefix("resnet").partition("_")
        return CifarResNet(int(depth), option.upper() or "B"), 10, 32
    # Stochastic depth would drop other blocks than in the programs that it is held against.
    settings = {"stochastic_depth_prob": 0.0} if name.startswith("convnext") else {}
    return torchvision.models.get_model(name, weights=None, **settings), 1000, 224


def load(model, path):
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))


def subject(options):
    """The model, its number of classes and the batch that is timed."""
    model, classes, side = build(options.model)
    if options.weights:
        load(model, options.weights)
    if options.input:
        x = read_images(options.input)
    else:
        x = torch.randn(options.batch, 3, options.size or side, options.size or side)
    return model.train(options.mode == "train"), classes, x


def read_images(path):
    return torch.from_numpy(numpy.load(path))


# ---- inference: every variant takes a model and a batch, and returns both as they are fast ------------------------------


def infer_eager(model, x):
    return model, x


def infer_channels_last(model, x):
    return model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)


def infer_jit_frozen(model, x):
    """TorchScript: batch norms folded, weights prepacked for oneDNN."""
    return torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, x))), x


def infer_jit_frozen_channels_last(model, x):
    return infer_jit_frozen(*infer_channels_last(model, x))


def infer_compile(model, x):
    """Inductor with frozen weights: batch norms folded, weights prepacked, the C++ compiler for the rest."""
    import torch._inductor.config as inductor

    inductor.freezing = True
    model, x = infer_channels_last(model, x)
    return torch.compile(model), x


def in_bf16(forward):
    """Under autocast: convolutions and linear layers in bf16."""

    def run(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return forward(x)

    return run


def infer_channels_last_bf16(model, x):
    model, x = infer_channels_last(model, x)
    return in_bf16(model), x


def infer_compile_bf16(model, x):
    model, x = infer_compile(model, x)
    return in_bf16(model), x


def infer_jit_frozen_bf16(model, x):
    """All weights and values in bf16."""
    model, x = infer_channels_last(model.to(torch.bfloat16), x.to(torch.bfloat16))
    return infer_jit_frozen(model, x)


def infer_onnxruntime(model, x):
    from onnx_peer import onnxruntime_session

    file = io.BytesIO()
    torch.onnx.export(model, (x,), file, opset_version=17, input_names=["input"], output_names=["logits"], dynamo=False)
    run = onnxruntime_session(file.getvalue(), torch.get_num_threads())
    return lambda x: torch.from_numpy(run(x.numpy())), x


class Inference:
    """Runs one batch."""

    def __init__(self, prepare, options):
        model, _, x = subject(options)
        self.forward, self.x = prepare(model, x)
        self.channels_last = not self.x.is_contiguous()

    def iteration(self):
        self.forward(self.x)

    def logits(self, images):
        return self.forward(images.to(memory_format=torch.channels_last) if self.channels_last else images)


# ---- training ---------------------------------------------------------------------------------------------------------


class Training:
    """Takes one step."""

    def __init__(self, options, channels_last=False, compiled=False, bf16=False):
        self.model, classes, self.x = subject(options)
        self.weights, self.channels_last = options.weights, channels_last
        if channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
            self.x = self.x.to(memory_format=torch.channels_last)
        self.labels = torch.arange(len(self.x)) % classes
        settings = {"lr": 1e-3, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
        try:
            self.optimizer = torch.optim.SGD(self.model.parameters(), fused=True, **settings)
        except (RuntimeError, TypeError):
            self.optimizer = torch.optim.SGD(self.model.parameters(), foreach=True, **settings)
        self.forward = torch.compile(self.model) if compiled else self.model
        self.bf16 = bf16

    def iteration(self):
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            loss = F.cross_entropy(self.forward(self.x), self.labels)
        loss.backward()
        self.optimizer.step()

    def logits(self, images):
        """By the weights of the file, to which the network then returns."""
        if self.weights:
            load(self.model, self.weights)
        return self.forward(images.to(memory_format=torch.channels_last) if self.channels_last else images).detach()


VARIANTS = {
    "infer": {
        prepare.__name__.removeprefix("infer_"): lambda options, prepare=prepare: Inference(prepare, options)
        for prepare in (
            infer_eager,
            infer_channels_last,
            infer_jit_frozen,
            infer_jit_frozen_channels_last,
            infer_compile,
            infer_channels_last_bf16,
            infer_compile_bf16,
            infer_jit_frozen_bf16,
            infer_onnxruntime,
        )
    },
    "train": {
        "eager": Training,
        "channels_last": lambda options: Training(options, channels_last=True),
        "compile": lambda options: Training(options, compiled=True),
        "compile_channels_last": lambda options: Training(options, channels_last=True, compiled=True),
        "channels_last_bf16": lambda options: Training(options, channels_last=True, bf16=True),
        "compile_bf16": lambda options: Training(options, compiled=True, bf16=True),
        "compile_channels_last_bf16": lambda options: Training(options, channels_last=True, compiled=True, bf16=True),
    },
}


# ---- timing -----------------------------------------------------------------------------------------------------------


def time_ms(iteration, count):
    times = []
    for _ in range(count):
        start = time.perf_counter()
        iteration()
        times.append(1000 * (time.perf_counter() - start))
    return times


def versions(variant):
    found = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    if variant == "onnxruntime":
        import onnxruntime

        found["onnxruntime"] = onnxruntime.__version__
    return found


def describe(options, variant):
    return {
        "model": options.model,
        "mode": options.mode,
        "variant": variant,
        "batch": len(read_images(options.input)) if options.input else options.batch,
        "threads": options.threads,
        "isa": torch.backends.cpu.get_cpu_capability(),
        "versions": versions(variant),
    }


def serve(program, description, out):
    def answer(words):
        match words:
            case ["run", count]:
                return {"ms": [round(t, 4) for t in time_ms(program.iteration, int(count))]}
            case ["logits", path]:
                return {"logits": program.logits(read_images(path)).tolist()}
        raise SystemExit(f"expected `run N`, `logits FILE.npy` or `quit`, got {' '.join(words)!r}")

    print(json.dumps({"ready": description}), file=out, flush=True)
    for line in sys.stdin:
        if line.strip() == "quit":
            return
        print(json.dumps(answer(line.strip().split(maxsplit=1))), file=out, flush=True)


def report(program, options, description, out):
    times = sorted(time_ms(program.iteration, options.repeats))
    p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
    figures = {"median_ms": statistics.median(times), "min_ms": times[0], "p95_ms": p95, "n": len(times)}
    print(json.dumps(description | {k: round(v, 3) for k, v in figures.items()}), file=out, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mode", choices=VARIANTS)
    parser.add_argument("--model", required=True, help="resnet20, resnet56 or a torchvision name (ConvNeXt without stochastic depth)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, help="image side (default: 32 for CIFAR networks, 224 otherwise)")
    parser.add_argument("--weights", help="a torch state dict (default: random weights)")
    parser.add_argument("--input", help="an .npy file with the batch, f32 and normalised (default: noise)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--variant", action="append", help="one of the forms (repeatable; default: all)")
    parser.add_argument("--serve", action="store_true", help="answer `run N` lines; needs exactly one --variant")
    options = parser.parse_args()
    options.variant = options.variant or list(VARIANTS[options.mode])
    for variant in options.variant:
        if variant not in VARIANTS[options.mode]:
            parser.error(f"--variant {variant}: expected one of {', '.join(VARIANTS[options.mode])}")
    if options.serve and len(options.variant) != 1:
        parser.error("--serve needs exactly one --variant")
    return options


def main():
    options = arguments()
    # Libraries print to stdout while they compile; only this script's lines may reach it.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    for variant in options.variant:
        description = describe(options, variant)
        with torch.inference_mode(options.mode == "infer"):
            try:
                program = VARIANTS[options.mode][variant](options)
                time_ms(program.iteration, max(1, options.warmup))
            except Exception as error:  # A form that this machine cannot run is a result, not a crash.
                reason = str(error).strip().partition("\n")[0] or type(error).__name__
                print(json.dumps(description | {"error": reason}), file=out, flush=True)
                if options.serve:
                    sys.exit(1)
                continue
            if options.serve:
                serve(program, description, out)
            else:
                report(program, options, description, out)
        torch._dynamo.reset()


if __name__ == "__main__":
    main()
