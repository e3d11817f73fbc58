"""Writes losses.json beside this script: losses and gradients of torch, torchvision and timm, in float64.

    python make_losses.py            (needs torch, torchvision, timm)

Logits are 3 u and weights 1.25 + 0.75 u for the u of `uniform`. Hard targets are (7 image + 3) % classes; mixed ones are those with
weight 0.3 and the same in reverse order with 0.7, as timm's MixUp has them; soft ones are the softmax of u; multi-label ones are 1
where u > 0.5.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.data.mixup import mixup_target
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy
from torchvision.ops import sigmoid_focal_loss

HERE = Path(__file__).resolve().parent
SHAPES = [(4, 3), (7, 10)]


def uniform(seed, count):
    """Numbers in [-1, 1) that a test in another language can make."""
    state, numbers = seed, []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        numbers.append(state / 2**30 - 1)
    return torch.tensor(numbers, dtype=torch.float64)


def cases(images, classes):
    logits = 3 * uniform(1, images * classes).view(images, classes)
    weights = 1.25 + 0.75 * uniform(2, classes)
    hard = torch.tensor([(7 * image + 3) % classes for image in range(images)])
    soft = uniform(3, images * classes).view(images, classes).softmax(1).float().double()
    several = (uniform(4, images * classes).view(images, classes) > 0.5).double()

    def mixed(smoothing):
        return mixup_target(hard, classes, 0.3, smoothing).double()

    for smoothing in (0.0, 0.1):
        for weight in (None, weights):
            rule = {"loss": "softmax", "smoothing": smoothing, "weighted": weight is not None}
            yield rule | {"targets": "hard"}, logits, F.cross_entropy, (hard,), {"weight": weight, "label_smoothing": smoothing}
            for name, target in (("soft", soft), ("mixed", mixed(0.0))):
                yield rule | {"targets": name}, logits, F.cross_entropy, (target,), {"weight": weight, "label_smoothing": smoothing}
        rule = {"loss": "softmax", "smoothing": smoothing, "weighted": False, "targets": "mixed"}
        yield rule | {"source": "timm"}, logits, SoftTargetCrossEntropy(), (mixed(smoothing),), {}
        for threshold in (None, 0.2):
            for sum_classes in (False, True):
                rule = {
                    "loss": "sigmoid", "smoothing": smoothing, "weighted": False, "threshold": threshold,
                    "sum_classes": sum_classes,
                }  # fmt: skip
                bce = BinaryCrossEntropy(smoothing, threshold, sum_classes=sum_classes, smooth_dense=True)
                yield rule | {"targets": "hard"}, logits, bce, (hard,), {}
                yield rule | {"targets": "several"}, logits, bce, (several,), {}
                # As timm's training script does: MixUp has smoothed the targets.
                bce = BinaryCrossEntropy(smoothing, threshold, sum_classes=sum_classes)
                yield rule | {"targets": "mixed"}, logits, bce, (mixed(smoothing),), {}
    bce = BinaryCrossEntropy(0.0, weight=weights)
    rule = {"loss": "sigmoid", "smoothing": 0.0, "weighted": True, "threshold": None, "sum_classes": False}
    yield rule | {"targets": "several"}, logits, bce, (several,), {}
    for gamma, alpha in ((2.0, None), (2.0, 0.25), (0.5, 0.75)):
        rule = {"loss": "sigmoid", "smoothing": 0.0, "weighted": False, "gamma": gamma, "alpha": alpha, "targets": "several"}
        settings = {"alpha": -1 if alpha is None else alpha, "gamma": gamma, "reduction": "mean"}
        yield rule, logits, sigmoid_focal_loss, (several,), settings


def digits(values):
    return [float(f"{value:.9g}") for value in values]


def main():
    lines = []
    for images, classes in SHAPES:
        for rule, logits, loss, targets, settings in cases(images, classes):
            logits = logits.float().double().requires_grad_()
            value = loss(logits, *targets, **settings)
            value.backward()
            content = {"images": images, "classes": classes} | rule
            content |= {"value": digits([value.item()])[0], "gradient": digits(logits.grad.flatten().tolist())}
            lines.append(json.dumps(content, separators=(",", ":")))
    path = HERE / "losses.json"
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{len(lines)} losses, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
