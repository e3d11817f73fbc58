"""Writes distillation.json beside this script: distillation losses and gradients of torch, in float64.

    python make_distillation.py      (needs torch, torchvision, timm)

Logits and feature maps are made of the `uniform` of make_losses.py: the student's logits are 3 u of seed 1, the teacher's 6 u of seed
2, the labels (7 image + 3) % classes, the feature maps u of the seeds 3 and 4, N x H x W x C. Decoupled distillation is written out
from equations 5 to 7 of arXiv:2203.08679, attention transfer as the function `at_loss` of the code of arXiv:1612.03928.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from make_losses import digits, uniform

HERE = Path(__file__).resolve().parent


def hinton(student, teacher, _labels, temperature):
    log_q = F.log_softmax(student / temperature, 1)
    return F.kl_div(log_q, F.softmax(teacher / temperature, 1), reduction="batchmean") * temperature**2


def decoupled(student, teacher, labels, temperature, alpha, beta):
    p, q = (F.softmax(logits / temperature, 1) for logits in (teacher, student))
    target = F.one_hot(labels, student.shape[1]).bool()

    def binary(p):
        return torch.stack([p[target], 1 - p[target]], 1)

    def others(logits):
        return logits[~target].view(len(labels), -1) / temperature

    tckd = F.kl_div(binary(q).log(), binary(p), reduction="batchmean")
    nckd = F.kl_div(F.log_softmax(others(student), 1), F.softmax(others(teacher), 1), reduction="batchmean")
    return temperature**2 * (alpha * tckd + beta * nckd)


def attention(student, teacher):
    def maps(x):
        return F.normalize(x.permute(0, 3, 1, 2).pow(2).mean(1).view(x.size(0), -1))

    return (maps(student) - maps(teacher)).pow(2).mean()


def content(rule, x, value):
    value.backward()
    return rule | {"value": digits([value.item()])[0], "gradient": digits(x.grad.flatten().tolist())}


def cases():
    for images, classes in ((4, 3), (7, 10)):
        labels = torch.tensor([(7 * image + 3) % classes for image in range(images)])
        shape = {"images": images, "classes": classes}
        for loss, rule in (
            (hinton, {"temperature": 1.0}),
            (hinton, {"temperature": 4.0}),
            (decoupled, {"temperature": 4.0, "alpha": 1.0, "beta": 8.0}),
            (decoupled, {"temperature": 2.0, "alpha": 0.5, "beta": 0.0}),
        ):
            student, teacher = (
                (scale * uniform(seed, images * classes)).float().double().view(images, classes)
                for scale, seed in ((3, 1), (6, 2))
            )
            student.requires_grad_()
            yield content(shape | {"loss": loss.__name__} | rule, student, loss(student, teacher, labels, **rule))
    for images, side, channels, teacher_channels in ((2, 3, 5, 5), (3, 4, 4, 9)):
        student, teacher = (
            uniform(seed, images * side * side * c).float().double().view(images, side, side, c)
            for seed, c in ((3, channels), (4, teacher_channels))
        )
        student.requires_grad_()
        shape = {"images": images, "pixels": side * side, "channels": [channels, teacher_channels]}
        yield content(shape | {"loss": "attention"}, student, attention(student, teacher))


def main():
    lines = [json.dumps(case, separators=(",", ":")) for case in cases()]
    path = HERE / "distillation.json"
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{len(lines)} losses, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
