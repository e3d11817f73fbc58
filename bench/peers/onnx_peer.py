"""Times ONNX Runtime or OpenVINO on an ONNX file, by the protocol of `../compare.py`, without importing torch.

    python onnx_peer.py onnxruntime --onnx resnet50-b1.onnx --input 1x224.npy --threads 2
"""

import argparse
import json
import os
import sys
import time

import numpy

WARM_UP = 3


def onnxruntime_session(model, threads, precision="f32"):
    """A function from a batch to its logits; `model` is a path or the bytes of a file."""
    import onnxruntime as ort

    if precision != "f32":
        raise SystemExit(f"--precision {precision}: ONNX Runtime computes in the precision of the file")

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def openvino_session(model, threads, precision="f32"):
    import openvino as ov

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "NUM_STREAMS": 1,
    }
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    # Neither the batch nor the logits are copied on their way in and out.
    return lambda x: request.infer([x], share_inputs=True, share_outputs=True)[0]


def versions(program):
    import importlib.metadata

    return {program: importlib.metadata.version(program)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    sessions = {"onnxruntime": onnxruntime_session, "openvino": openvino_session}
    parser.add_argument("program", choices=sessions)
    parser.add_argument("--onnx", required=True)
    parser.add_argument("--input", required=True, help="an .npy file with the batch, f32 and normalised")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="OpenVINO's inference precision")
    options = parser.parse_args()

    # Only this script's lines may reach stdout.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    x = numpy.load(options.input)
    run = sessions[options.program](options.onnx, options.threads, options.precision)

    def timed():
        start = time.perf_counter()
        run(x)
        return round(1000 * (time.perf_counter() - start), 4)

    for _ in range(WARM_UP):
        run(x)
    about = {"threads": options.threads, "versions": versions(options.program)}
    print(json.dumps({"ready": about}), file=out, flush=True)
    for line in sys.stdin:
        match line.strip().split(maxsplit=1):
            case ["run", count]:
                answer = {"ms": [timed() for _ in range(int(count))]}
            case ["logits", path]:
                answer = {"logits": run(numpy.load(path)).tolist()}
            case ["quit"]:
                return
            case words:
                raise SystemExit(f"expected `run N`, `logits FILE.npy` or `quit`, got {' '.join(words)!r}")
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
