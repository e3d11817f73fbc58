#!/usr/bin/env python3
"""Holds exported int8 checkpoints against other programs:

- accuracy on the CIFAR-10 test set in `residual predict`, onnxruntime and OpenVINO, and in how many images the class differs;
- which convolutions and linear layers onnxruntime and OpenVINO compute in int8, by their optimised graphs.

    cargo build --release --bin residual
    residual quantize --weights resnet20.th --model resnet20_a --data cifar10 --data-dir cifar-10-batches-bin -o int8.safetensors
    python3 bench/onnx_int8.py --data cifar-10-batches-bin [--limit N] [--output FILE.md] INT8.safetensors…

Exit code 1 if a runtime's accuracy is more than 0.1 points from ours. Needs numpy, onnx, onnxruntime and openvino. Without `--data`
the layers alone are listed. OpenVINO's products of bytes saturate on processors without VNNI instructions: its accuracy is then not
judged.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
import openvino

ROOT = pathlib.Path(__file__).resolve().parent.parent
POINTS = 0.1
BATCH = 100


def onnxruntime_session(path, optimized):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Without VNNI instructions, products saturate otherwise.
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.optimized_model_filepath = str(optimized)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session, [node.op_type for node in onnx.load(str(optimized)).graph.node]


def openvino_model(path):
    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1})
    compiled = core.compile_model(core.read_model(path), "CPU")
    layers = collections.Counter()
    for op in compiled.get_runtime_model().get_ops():
        info = op.get_rt_info()
        layers[info["layerType"].astype(str), info["runtimePrecision"].astype(str)] += 1
    return compiled, layers


def images(folder, limit, description):
    """Normalised test images and their classes."""
    records = numpy.fromfile(folder / "test_batch.bin", numpy.uint8).reshape(-1, 3073)[:limit]
    mean, std = [numpy.array(description[key], numpy.float32).reshape(3, 1, 1) for key in ["mean", "std"]]
    pixels = records[:, 1:].reshape(-1, 3, 32, 32).astype(numpy.float32)
    return (pixels / numpy.float32(255) - mean) / std, records[:, 0]


def batches(run, pixels):
    return numpy.concatenate([run(pixels[at : at + BATCH]) for at in range(0, len(pixels), BATCH)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", type=pathlib.Path, metavar="INT8.safetensors")
    parser.add_argument("--data", type=pathlib.Path, help="the folder of CIFAR-10's binary files")
    parser.add_argument("--limit", type=int, help="number of test images, for a quick run")
    parser.add_argument("--residual", default=ROOT / "target/release/residual", type=pathlib.Path)
    parser.add_argument("--output", type=pathlib.Path, help="where the tables are written to as well")
    arguments = parser.parse_args()
    layers = "| weights | program | in int8 | in f32 |\n|---|---|---|---|\n"
    accuracy = "| weights | residual | onnxruntime | OpenVINO | classes that differ between the two |\n|---|---|---|---|---|\n"
    failed = False
    for weights in arguments.weights:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "int8.onnx"
            subprocess.run([arguments.residual, "export", "--weights", weights, "-o", path], check=True, capture_output=True)
            onnx.checker.check_model(str(path), full_check=True)
            session, ops = onnxruntime_session(path, pathlib.Path(folder) / "optimized.onnx")
            compiled, kinds = openvino_model(path)
            description = json.loads(session.get_modelmeta().custom_metadata_map["residual.preprocessing"])
        count = lambda *names: sum(op in names for op in ops)
        layers += (
            f"| `{weights.stem}` | onnxruntime {onnxruntime.__version__} | {count('QLinearConv')} convolutions, {count('QGemm')} linear"
            f" | {count('Conv', 'FusedConv', 'NhwcFusedConv')} convolutions, {count('Gemm', 'MatMul')} linear |\n"
        )
        of = lambda kind, int8: sum(n for (k, precision), n in kinds.items() if k == kind and (precision in ["u8", "i8"]) == int8)
        layers += (
            f"| `{weights.stem}` | OpenVINO {openvino.__version__.split('-')[0]} | {of('Convolution', True)} convolutions,"
            f" {of('FullyConnected', True)} linear | {of('Convolution', False)} convolutions, {of('FullyConnected', False)} linear |\n"
        )
        if arguments.data:
            pixels, classes = images(arguments.data, arguments.limit, description)
            first = batches(lambda batch: session.run(["logits"], {"input": batch})[0], pixels).argmax(1)
            second = batches(lambda batch: compiled({"input": batch})[0], pixels).argmax(1)
            command = [arguments.residual, "predict", "--weights", weights, "--data", "cifar10", "--data-dir", arguments.data]
            command += ["--split", "test", "--limit", str(len(classes)), "--json"]
            answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            predicted = numpy.array([image["top"][0]["index"] for image in answer["predictions"]])
            ours, *theirs = [100 * float((got == classes).mean()) for got in [predicted, first, second]]
            saturates = not any("vnni" in line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines())
            failed |= any(abs(points - ours) > POINTS for points in theirs[: 1 if saturates else 2])
            accuracy += f"| `{weights.stem}` | {ours:.2f} | {theirs[0]:.2f} | {theirs[1]:.2f} | {int((first != second).sum())} of {len(classes)} |\n"
        text = layers + ("\n" + accuracy if arguments.data else "")
        if arguments.output:
            arguments.output.write_text(text)
    print(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
