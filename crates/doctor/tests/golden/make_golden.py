"""Makes the golden files: appearance.json (numpy, Pillow and scipy, by CleanVision's formulas), probe.json (scikit-learn),
confident_learning.json (cleanlab), and a JPEG file of printing colours.

    pip install numpy pillow scipy scikit-learn cleanlab
    python make_golden.py
"""

import json
import math
import pathlib

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from PIL import Image, ImageFilter, ImageStat
from scipy.fft import dctn
from sklearn.linear_model import LogisticRegression

folder = pathlib.Path(__file__).parent
random = np.random.default_rng(7)


def write(name, value):
    (folder / name).write_text(json.dumps(value) + "\n")


def appearance(pixels):
    image = Image.fromarray(pixels)
    values = pixels.astype(float)
    if pixels.ndim == 3:
        r, g, b = values[..., 0], values[..., 1], values[..., 2]
        brightness = np.sqrt(0.241 * r * r + 0.691 * g * g + 0.068 * b * b) / 255
    else:
        brightness = values / 255
    rgb = image.convert("RGB")
    ratio = max(image.width, image.height) / 64
    small = rgb.resize((int(image.width // ratio), int(image.height // ratio))) if ratio > 1 else rgb
    grey = small.convert("L")
    score = lambda value: 1 - math.exp(-value * 0.01)
    spread = score(np.std(grey.histogram()))
    edges = ImageStat.Stat(grey.filter(ImageFilter.FIND_EDGES)).var[0]
    square = np.asarray(small.resize((32, 32), Image.BILINEAR).convert("L")).astype(float)
    low = dctn(square)[:8, :8].ravel()
    median = np.median(low[1:])
    bits = sum(1 << index for index in range(1, 64) if low[index] > median)
    return {
        "height": image.height,
        "width": image.width,
        "channels": 1 if pixels.ndim == 2 else 3,
        "pixels": pixels.ravel().tolist(),
        "brightest": float(np.percentile(brightness, 99)),
        "darkest": float(1 - np.percentile(brightness, 5)),
        "sharpness": min(score(math.sqrt(edges)) + (spread if spread > 0.18 else 0), 1),
        "entropy": image.entropy(),
        "hash": f"{bits:016x}",
    }


def smooth(*shape):
    noise = random.normal(0, 1, shape)
    for axis in (0, 1):
        noise = sum(np.roll(noise, shift, axis) for shift in range(5))
    return np.clip(110 + 12 * noise, 0, 255).astype(np.uint8)


write("appearance.json", [appearance(smooth(24, 20, 3)), appearance(smooth(72, 66)), appearance(smooth(36, 70) // 8)])

rows, features, classes = 60, 7, 3
labels = random.integers(0, classes, rows)
values = random.normal(0, 1, (rows, features)).astype(np.float32)
values[:, 0] += labels
values[:, 1] = 3 + 10 * values[:, 1]
scaled = (values - values.mean(0)) / values.std(0) / math.sqrt(features)
probe = LogisticRegression(C=1, max_iter=1000, tol=1e-8).fit(scaled, labels)
write("probe.json", {
    "values": values.ravel().tolist(),
    "labels": labels.tolist(),
    "features": features,
    "classes": classes,
    "probabilities": probe.predict_proba(scaled).ravel().tolist(),
})

images, classes = 150, 4
labels = random.integers(0, classes, images)
logits = random.normal(0, 1.2, (images, classes))
logits[np.arange(images), labels] += 2.2
given = labels.copy()
wrong = random.choice(images, 18, replace=False)
given[wrong] = (given[wrong] + 1 + random.integers(0, classes - 1, 18)) % classes
logits = logits.astype(np.float32)
probabilities = np.exp(logits.astype(np.float64))
probabilities /= probabilities.sum(1, keepdims=True)
score = lambda method: get_label_quality_scores(given, probabilities, method=method, adjust_pred_probs=False).tolist()
issues = lambda method: np.flatnonzero(
    find_label_issues(given, probabilities, filter_by=method, min_examples_per_class=0, n_jobs=1)
).tolist()
write("confident_learning.json", {
    "classes": classes,
    "labels": given.tolist(),
    "logits": logits.ravel().tolist(),
    "self_confidence": score("self_confidence"),
    "normalized_margin": score("normalized_margin"),
    "off_diagonal": issues("confident_learning"),
    "pruned": issues("prune_by_noise_rate"),
})

random = np.random.default_rng(3)
coarse = np.kron(random.normal(0, 1, (6, 6, 4)), np.ones((10, 10, 1)))
inks = np.clip(128 + 60 * coarse + random.normal(0, 12, (60, 60, 4)), 0, 255).astype(np.uint8)
Image.fromarray(inks, "CMYK").save(folder / "cmyk.jpg", quality=60)
