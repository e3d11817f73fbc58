"""Times PyTorch and ONNX Runtime on residual networks, in every form in which they are fast.

    python torch_peer.py infer --model resnet50 --batch 1 --threads 2 --repeats 20
    python torch_peer.py train --model resnet20 --batch 128 --size 32 --threads 2 --repeats 20

prints one JSON line a variant. With `--variant NAME --serve` it prepares that variant, prints one line
`{"ready": {...}}`, and then answers each line `run N` on stdin with `{"ms": [N times]}` on stdout, until `quit` or the end
of input. That protocol is what `../compare.py` alternates contenders with.

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

import torch
import torch.nn.functional as F
import torchvision
from cifar_resnet import CifarResNet


def build(name):
    """The model, its number of classes and its usual image side."""
    if name in ("resnet20", "resnet56", "resnet20_a", "resnet56_a"):
        depth, _, option = name.removeprefix("resnet").partition("_")
        return CifarResNet(int(depth), option.upper() or "B"), 10, 32
    return torchvision.models.get_model(name, weights=None), 1000, 224


# ---- inference: every variant takes the options and returns a function that runs the batch once -----------------------


def infer_inputs(options):
    model, _, side = build(options.model)
    return model.eval(), torch.randn(options.batch, 3, options.size or side, options.size or side)


def infer_eager(options):
    model, x = infer_inputs(options)
    return lambda: model(x)


def infer_channels_last(options):
    model, x = infer_inputs(options)
    model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    return lambda: model(x)


def infer_jit_frozen(options):
    """TorchScript: batch norms folded, weights prepacked for oneDNN."""
    model, x = infer_inputs(options)
    model = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, x)))
    return lambda: model(x)


def infer_jit_frozen_channels_last(options):
    model, x = infer_inputs(options)
    model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    model = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, x)))
    return lambda: model(x)


def infer_compile(options):
    """Inductor with frozen weights: batch norms folded, weights prepacked, the C++ compiler for the rest."""
    import torch._inductor.config as inductor

    inductor.freezing = True
    model, x = infer_inputs(options)
    model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    model = torch.compile(model)
    return lambda: model(x)


def infer_onnxruntime(options):
    import onnxruntime as ort

    model, x = infer_inputs(options)
    file = io.BytesIO()
    torch.onnx.export(model, (x,), file, opset_version=17, input_names=["input"], output_names=["logits"], dynamo=False)
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(file.getvalue(), settings, providers=["CPUExecutionProvider"])
    feed = {"input": x.numpy()}
    return lambda: session.run(None, feed)


# ---- training ---------------------------------------------------------------------------------------------------------


def train_step(options, channels_last=False, compiled=False):
    model, classes, side = build(options.model)
    size = options.size or side
    model.train()
    x = torch.randn(options.batch, 3, size, size)
    labels = torch.arange(options.batch) % classes
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    settings = {"lr": 1e-3, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
    try:
        optimizer = torch.optim.SGD(model.parameters(), fused=True, **settings)
    except (RuntimeError, TypeError):
        optimizer = torch.optim.SGD(model.parameters(), foreach=True, **settings)
    forward = torch.compile(model) if compiled else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(forward(x), labels).backward()
        optimizer.step()

    return step


VARIANTS = {
    "infer": {
        "eager": infer_eager,
        "channels_last": infer_channels_last,
        "jit_frozen": infer_jit_frozen,
        "jit_frozen_channels_last": infer_jit_frozen_channels_last,
        "compile": infer_compile,
        "onnxruntime": infer_onnxruntime,
    },
    "train": {
        "eager": train_step,
        "channels_last": lambda options: train_step(options, channels_last=True),
        "compile": lambda options: train_step(options, compiled=True),
        "compile_channels_last": lambda options: train_step(options, channels_last=True, compiled=True),
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
        "batch": options.batch,
        "threads": options.threads,
        "versions": versions(variant),
    }


def serve(iteration, description, out):
    print(json.dumps({"ready": description}), file=out, flush=True)
    for line in sys.stdin:
        match line.split():
            case ["run", count]:
                print(json.dumps({"ms": [round(t, 4) for t in time_ms(iteration, int(count))]}), file=out, flush=True)
            case ["quit"]:
                return
            case words:
                raise SystemExit(f"expected `run N` or `quit`, got {' '.join(words)!r}")


def report(iteration, options, description, out):
    times = sorted(time_ms(iteration, options.repeats))
    p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
    figures = {"median_ms": statistics.median(times), "min_ms": times[0], "p95_ms": p95, "n": len(times)}
    print(json.dumps(description | {k: round(v, 3) for k, v in figures.items()}), file=out, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mode", choices=VARIANTS)
    parser.add_argument("--model", required=True, help="resnet20, resnet56 or a torchvision name")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, help="image side (default: 32 for CIFAR networks, 224 otherwise)")
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
                iteration = VARIANTS[options.mode][variant](options)
                time_ms(iteration, max(1, options.warmup))
            except Exception as error:  # A form that this machine cannot run is a result, not a crash.
                reason = str(error).strip().partition("\n")[0] or type(error).__name__
                print(json.dumps(description | {"error": reason}), file=out, flush=True)
                if options.serve:
                    sys.exit(1)
                continue
            if options.serve:
                serve(iteration, description, out)
            else:
                report(iteration, options, description, out)
        torch._dynamo.reset()


if __name__ == "__main__":
    main()
