"""Names what is in one image with ONNX Runtime, Pillow and numpy, as a small script would: for timing from process start.

    python first_onnxruntime.py resnet50-b1.onnx image.jpg

prints the five likeliest classes as JSON, `[[index, probability], ...]`.
"""

import json
import sys

import numpy
import onnxruntime
from PIL import Image

model, path = sys.argv[1:]
image = Image.open(path).convert("RGB")
image = image.resize([256 * side // min(image.size) for side in image.size], Image.Resampling.BILINEAR)
left, top = (round((side - 224) / 2) for side in image.size)
x = numpy.asarray(image.crop((left, top, left + 224, top + 224)), dtype=numpy.float32) / 255
x = (x - numpy.float32([0.485, 0.456, 0.406])) / numpy.float32([0.229, 0.224, 0.225])
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
logits = session.run(None, {"input": x.transpose(2, 0, 1)[None]})[0][0]
probabilities = numpy.exp(logits - logits.max())
probabilities /= probabilities.sum()
print(json.dumps([[int(index), float(probabilities[index])] for index in probabilities.argsort()[::-1][:5]]))
