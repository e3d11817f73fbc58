"""Names what is in one image with torchvision's ResNet-50, as a small script would: for timing from process start.

    python first_torch.py resnet50.pth image.jpg

prints the five likeliest classes as JSON, `[[index, probability], ...]`.
"""

import json
import sys

import torch
from PIL import Image
from torchvision.models import ResNet50_Weights, resnet50

weights, image = sys.argv[1:]
model = resnet50(weights=None).eval()
model.load_state_dict(torch.load(weights, weights_only=True))
preprocess = ResNet50_Weights.IMAGENET1K_V1.transforms()
with torch.inference_mode():
    probabilities = model(preprocess(Image.open(image).convert("RGB")).unsqueeze(0)).softmax(1)[0]
top = probabilities.topk(5)
print(json.dumps([[index, value] for value, index in zip(top.values.tolist(), top.indices.tolist())]))
