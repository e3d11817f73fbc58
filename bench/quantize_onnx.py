"""Quantises an ONNX file with ONNX Runtime's own tools (static, QDQ, one scale a channel), to be timed beside ours by `compare.py`.

    residual export --weights resnet50.safetensors --fold -o resnet50.onnx
    python bench/quantize_onnx.py resnet50.onnx resnet50.qdq.onnx

Calibrates on 16 images of noise: for speed, not for accuracy. Weights keep 7 bits (`reduce_range`), so that products do not saturate on
processors without VNNI instructions. Needs numpy, onnx and onnxruntime.
"""

import argparse

import numpy
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static


class Noise(CalibrationDataReader):
    def __init__(self, file):
        name = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).get_inputs()[0]
        random = numpy.random.default_rng(0)
        shape = [size if isinstance(size, int) else 1 for size in name.shape]
        self.images = iter([{name.name: random.standard_normal(shape, numpy.float32)} for _ in range(16)])

    def get_next(self):
        return next(self.images, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("target")
    options = parser.parse_args()
    quantize_static(
        options.source,
        options.target,
        Noise(options.source),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


if __name__ == "__main__":
    main()
