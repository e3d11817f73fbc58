#!/usr/bin/env python3
"""Holds ONNX files that `residual export` writes against other programs, network by network:

- `onnx.checker` with full shape inference;
- onnxruntime's logits of the file, of one and of three images, as it is and with batch norms folded;
- PyTorch's logits of the same weights, where torchvision or timm has the network (strict loading of our checkpoint);
- `residual predict --logits` of the same images.

    cargo build --release --bin residual
    cargo build --release -p residual-onnx --example random_models
    python3 bench/onnx_check.py [--img-size 64] [--output FILE.md] [NAME…]

Weights are random, with statistics and scales that leave no layer without effect (`crates/onnx/tests/support`). Differences are
the largest one of two logits over the largest logit. Exit code 1 if one is above the tolerance. Needs onnx, onnxruntime,
numpy, and for PyTorch's column torch, torchvision, timm and safetensors.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOLERANCE = 1e-4
IMAGES = 3
TIMM = {"resnet18d", "resnet34d", "resnet50d", "resnet101d", "seresnet50", "resnext101_32x4d", "resnetv2_50", "resnetv2_101"}


def difference(got, expected):
    if got.shape != expected.shape:
        return numpy.inf
    largest = numpy.abs(got - expected).max() / numpy.abs(expected).max()
    return numpy.inf if numpy.isnan(largest) else float(largest)


def in_onnxruntime(path, images, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (together,) = session.run(["logits"], {"input": images})
    (alone,) = session.run(["logits"], {"input": images[:1]})
    return together, difference(alone, together[:1]), session.get_modelmeta().custom_metadata_map


def in_torch(name, weights, images):
    """PyTorch's logits, or None where it does not have the network."""
    try:
        import safetensors.torch
        import torch
        import torchvision
    except ImportError:
        return None
    if name in TIMM:
        import timm

        network = timm.create_model(name, pretrained=False)
    elif name in torchvision.models.list_models():
        network = torchvision.models.get_model(name, weights=None)
    else:
        return None
    network.load_state_dict(safetensors.torch.load_file(weights), strict=True)
    with torch.no_grad():
        return network.eval()(torch.from_numpy(images)).numpy()


def in_residual(residual, weights, images, size, folder):
    """Our logits, or why there are none."""
    path = folder / "images.npy"
    numpy.save(path, images)
    command = [residual, "predict", "--weights", weights, "--logits", "--json", "-b", str(IMAGES), *size, path]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        return None, ran.stderr.strip().splitlines()[-1]
    rows = json.loads(ran.stdout)["predictions"]
    return numpy.array([row["logits"] for row in rows], numpy.float32), ""


def check(name, side, arguments, folder):
    subprocess.run([arguments.random_models, folder, name], check=True, capture_output=True)
    weights = folder / f"{name}.safetensors"
    at_most = arguments.img_size
    size = ["--img-size", str(at_most)] if at_most and side > at_most else []
    files = {}
    for what, flags in [("plain", []), ("folded", ["--fold"])]:
        files[what] = folder / f"{what}.onnx"
        command = [arguments.residual, "export", "--weights", weights, "--format", "onnx", "-o", files[what], "--json"]
        subprocess.run([*command, *flags, *size], check=True, capture_output=True)
        onnx.checker.check_model(str(files[what]), full_check=True)
    proto = onnx.load(str(files["plain"]))
    _, channels, height, width = [extent.dim_value for extent in proto.graph.input[0].type.tensor_type.shape.dim]
    random = numpy.random.default_rng(0)
    images = random.standard_normal((IMAGES, channels, height, width)).astype(numpy.float32)
    # Of another mean and deviation in each image, so that logits differ.
    images = images * numpy.arange(1, IMAGES + 1, dtype=numpy.float32).reshape(-1, 1, 1, 1)
    images += numpy.arange(IMAGES, dtype=numpy.float32).reshape(-1, 1, 1, 1)
    logits, alone, metadata = in_onnxruntime(files["plain"], images, arguments.threads)
    folded, _, _ = in_onnxruntime(files["folded"], images, arguments.threads)
    assert metadata["residual.model"] == name
    assert json.loads(metadata["residual.preprocessing"])["size"] == [height, width]
    row = {
        "network": name,
        "image": f"{channels}×{height}×{width}",
        "nodes": len(proto.graph.node),
        "spread": difference(logits[1:], logits[:-1]),
        "alone": alone,
        "folded": difference(folded, logits),
        "torch": None,
        "residual": None,
        "note": "",
    }
    theirs = in_torch(name, weights, images)
    if theirs is not None:
        row["torch"] = difference(logits, theirs)
    ours, row["note"] = in_residual(arguments.residual, weights, images, size, folder)
    if ours is not None:
        row["residual"] = difference(logits, ours)
    return row


def table(rows):
    head = "| network | images | nodes | images differ by | one image alone | folded | PyTorch | residual |\n|---|---|---|---|---|---|---|---|\n"
    text = head
    for row in rows:
        figures = [f"{row[key]:.1e}" if row[key] is not None else "–" for key in ["alone", "folded", "torch", "residual"]]
        text += f"| `{row['network']}` | {row['image']} | {row['nodes']} | {row['spread']:.2f} | {' | '.join(figures)} |\n"
    notes = [f"- `{row['network']}` in residual: {row['note']}\n" for row in rows if row["note"]]
    return text + ("\n" + "".join(notes) if notes else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NAME")
    parser.add_argument("--residual", default=ROOT / "target/release/residual", type=pathlib.Path)
    parser.add_argument("--random-models", default=ROOT / "target/release/examples/random_models", type=pathlib.Path)
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("--img-size", type=int, metavar="PIXELS", help="largest side of images, for a quick run")
    parser.add_argument("--output", type=pathlib.Path, help="where the table is written to as well")
    arguments = parser.parse_args()
    listed = subprocess.run([arguments.residual, "models", "list", "--json"], check=True, capture_output=True, text=True)
    sides = {model["name"]: model["input"][1] for model in json.loads(listed.stdout)["models"]}
    unknown = set(arguments.networks) - set(sides)
    if unknown:
        parser.error(f"expected names that `residual models list` shows, got {', '.join(sorted(unknown))}")
    rows, failed = [], []
    for name in arguments.networks or sides:
        with tempfile.TemporaryDirectory() as folder:
            try:
                row = check(name, sides[name], arguments, pathlib.Path(folder))
            except subprocess.CalledProcessError as error:
                sys.exit(f"{name}: {error}: {error.stderr}")
        rows.append(row)
        worst = max(row[key] or 0.0 for key in ["alone", "folded", "torch", "residual"])
        # A network whose logits hardly depend on the image shows nothing.
        if worst > TOLERANCE or not row["spread"] > 100 * TOLERANCE:
            failed.append(name)
        print(table([row]).splitlines()[2], row["note"], file=sys.stderr, flush=True)
        if arguments.output:
            arguments.output.write_text(table(rows))
    print(table(rows))
    print(f"torch, onnx, onnxruntime: {versions()}; tolerance {TOLERANCE:.0e}; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def versions():
    """Those of the programs that files are held against."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for package in ["torch", "onnx", "onnxruntime"]:
        try:
            found.append(version(package))
        except PackageNotFoundError:
            found.append("none")
    return ", ".join(found)


if __name__ == "__main__":
    sys.exit(main())
