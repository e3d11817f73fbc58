#!/usr/bin/env python3
"""Holds `residual export --preprocess` against Pillow and `residual predict`, on photographs:

- what the graph in onnxruntime makes of an image, in grey levels, against Pillow's resizing and the crop and letterbox of
  torchvision and timm;
- the class and the logits in onnxruntime against those of `residual predict`;
- several images of one size in one batch against each alone.

    python3 bench/onnx_images.py --photos FOLDER [--output FILE.md] WEIGHTS[:NETWORK]…

Every crop mode with both interpolations, square and not, in colour and grey. Photographs are rewritten as PNG first, so that
decoders agree. Exit code 1 if an image differs by more than two grey levels or a class differs. Needs numpy, onnx, onnxruntime and
Pillow; the column of OpenVINO, where it is installed, is shown and not judged: it resizes without antialiasing.
"""

import argparse
import json
import math
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
LEVELS = 2
FILTERS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}


def expected_input(image, description):
    """The network's input H×W×C in grey levels."""
    size, crop_pct = description["size"], round(description["crop_pct"], 6)
    mode = description.get("crop_mode", "center")
    scaled = [math.floor(side / crop_pct) for side in size]
    from_size = [image.height, image.width]
    ratios = [side / to for side, to in zip(from_size, scaled)]
    if mode == "squash":
        to = scaled
    elif mode == "center" and scaled[0] == scaled[1]:
        to = [scaled[0] * side // min(from_size) for side in from_size]
    else:
        ratio = max(ratios) if mode == "border" else min(ratios)
        to = [max(1, round(side / ratio)) for side in from_size]
    resized = image.resize((to[1], to[0]), FILTERS[description["interpolation"]])
    pixels = numpy.asarray(resized, numpy.float32).reshape(*to, -1)
    fill = numpy.round(255 * numpy.array(description["mean"])) if mode == "border" else 0
    canvas = numpy.zeros((*size, pixels.shape[2]), numpy.float32) + fill
    # As much of the middle of one as the other has room for.
    source, target = [], []
    for have, want in zip(to, size):
        count = min(have, want)
        start = round((have - want) / 2) if have > want else 0
        source.append(slice(start, start + count))
        start = (want - have) // 2 if have < want else 0
        target.append(slice(start, start + count))
    canvas[target[0], target[1]] = pixels[source[0], source[1]]
    return canvas


def with_size(weights, size, path):
    """A copy of a checkpoint for images of another size."""
    data = weights.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header["__metadata__"]
    (key,) = [key for key in metadata if key.endswith("preprocessing")]
    description = json.loads(metadata[key])
    description["size"] = size
    metadata[key] = json.dumps(description)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    return path


def with_input_shown(path):
    """The file, whose results are the logits and the network's input."""
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    model.graph.output.append(onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, None))
    return model.SerializeToString()


def in_openvino(path):
    try:
        import openvino
    except ImportError:
        return None
    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1})
    compiled = core.compile_model(core.read_model(with_input_shown(path)), "CPU")
    return lambda images: list(compiled({"images": images}).values())[1]


def predict(residual, weights, flags, photos):
    command = [residual, "predict", "--weights", weights, "--logits", "--json", *flags, *photos]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(ran.stderr)
    return numpy.array([row["logits"] for row in json.loads(ran.stdout)["predictions"]], numpy.float32)


def export(residual, weights, flags, path):
    command = [residual, "export", "--weights", weights, "--preprocess", "-o", path, "--json", *flags]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(ran.stderr)


def check(arguments, weights, flags, photos, folder):
    path = folder / "images.onnx"
    export(arguments.residual, weights, flags, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(with_input_shown(path), options, providers=["CPUExecutionProvider"])
    description = json.loads(session.get_modelmeta().custom_metadata_map["residual.preprocessing"])
    mean, std = [numpy.array(description[key], numpy.float32) for key in ["mean", "std"]]
    levels = lambda values: (values[0].transpose(1, 2, 0) * std + mean) * 255
    openvino = in_openvino(path)
    ours = predict(arguments.residual, weights, flags, photos)
    row = {"levels": 0.0, "beyond": 0.0, "logits": 0.0, "classes": 0, "openvino": None, "batch": 0.0}
    for photo, expected_logits in zip(photos, ours):
        image = Image.open(photo).convert("L" if len(mean) == 1 else "RGB")
        pixels = numpy.asarray(image).reshape(1, image.height, image.width, -1)
        logits, values = session.run(["logits", "input"], {"images": pixels})
        expected = expected_input(image, description)
        difference = numpy.abs(levels(values) - expected)
        row["levels"] = max(row["levels"], float(difference.max()))
        row["beyond"] = max(row["beyond"], float((difference > 0.5).mean()))
        row["logits"] = max(row["logits"], float(numpy.abs(logits[0] - expected_logits).max() / numpy.abs(expected_logits).max()))
        row["classes"] += int(logits[0].argmax() == expected_logits.argmax())
        if openvino:
            theirs = float(numpy.abs(levels(openvino(pixels)) - expected).max())
            row["openvino"] = max(row["openvino"] or 0.0, theirs)
        (pair,) = session.run(["logits"], {"images": numpy.concatenate([pixels, 255 - pixels])})
        row["batch"] = max(row["batch"], float(numpy.abs(pair[0] - logits[0]).max() / numpy.abs(logits).max()))
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", metavar="WEIGHTS[:NETWORK]", help="a checkpoint, or a state dict and its network")
    parser.add_argument("--photos", required=True, type=pathlib.Path, help="a folder of photographs")
    parser.add_argument("--limit", default=20, type=int, help="number of photographs")
    parser.add_argument("--residual", default=ROOT / "target/release/residual", type=pathlib.Path)
    parser.add_argument("--output", type=pathlib.Path, help="where the table is written to as well")
    arguments = parser.parse_args()
    text = "| weights | size | channels | crop | interpolation | grey levels | pixels that differ | logits | same class | batch | OpenVINO's grey levels |\n"
    text += "|---|---|---|---|---|---|---|---|---|---|---|\n"
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        photos = []
        for path in sorted(arguments.photos.rglob("*.jp*g"))[: arguments.limit]:
            photos.append(folder / f"{len(photos)}.png")
            Image.open(path).convert("RGB").save(photos[-1])
        for weights in arguments.weights:
            file, _, network = weights.partition(":")
            flags = ["--model", network] if network else []
            square = folder / "square.safetensors"
            command = [arguments.residual, "export", "--weights", file, *flags, "-o", square]
            subprocess.run(command, check=True, capture_output=True)
            oblong = with_size(square, [160, 224], folder / "oblong.safetensors")
            for mode in ["center", "squash", "border"]:
                for interpolation in FILTERS:
                    for size, checkpoint, more in [
                        ("square", square, []),
                        ("160×224", oblong, []),
                        ("square", square, ["--in-chans", "1"]),
                    ]:
                        crop = ["--crop-mode", mode, "--interpolation", interpolation, "--crop-pct", "0.9"]
                        row = check(arguments, checkpoint, crop + more, photos, folder)
                        failed |= row["levels"] > LEVELS + 0.01 or row["classes"] < len(photos) or row["batch"] > 1e-5
                        openvino = "–" if row["openvino"] is None else f"{row['openvino']:.0f}"
                        line = f"| `{pathlib.Path(file).stem}` | {size} | {1 if more else 3} | {mode} | {interpolation} | {row['levels']:.2f} | {100 * row['beyond']:.1f} % | {row['logits']:.1e} | {row['classes']} of {len(photos)} | {row['batch']:.0e} | {openvino} |\n"
                        print(line, end="", file=sys.stderr, flush=True)
                        text += line
                        if arguments.output:
                            arguments.output.write_text(text)
    print(text)
    print(f"onnxruntime {onnxruntime.__version__}; tolerance {LEVELS} grey levels; {'failed' if failed else 'passed'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
