#!/usr/bin/env python3
"""Writes `fvcore.txt` beside this script: `name multiply-accumulates` a line, of convolutions and linear layers at 224x224 (32x32
for CIFAR networks), as fvcore counts them from the operators that tracing finds.

    python3 crates/zoo/tests/macs/write.py          (needs torch, torchvision, timm, fvcore)
"""

import pathlib
import sys

import timm
import torch
import torchvision
from fvcore.nn import FlopCountAnalysis

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[3] / "bench" / "peers"))
from cifar_resnet import CifarResNet  # noqa: E402

NETWORKS = {
    "resnet50": (lambda: torchvision.models.resnet50(), 224),
    "resnext50_32x4d": (lambda: torchvision.models.resnext50_32x4d(), 224),
    "convnext_tiny": (lambda: torchvision.models.convnext_tiny(), 224),
    "densenet121": (lambda: torchvision.models.densenet121(), 224),
    "googlenet": (lambda: torchvision.models.googlenet(aux_logits=False, init_weights=False), 224),
    "vgg19": (lambda: torchvision.models.vgg19(), 224),
    "seresnet50": (lambda: timm.create_model("seresnet50"), 224),
    "resnet56": (lambda: CifarResNet(56, "B"), 32),
}

lines = []
for name, (build, side) in NETWORKS.items():
    count = FlopCountAnalysis(build().eval(), torch.zeros(1, 3, side, side))
    count.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    operators = count.by_operator()
    lines.append(f"{name} {operators['conv'] + operators['linear']}\n")
(HERE / "fvcore.txt").write_text("".join(lines))
