#!/usr/bin/env python3
"""Writes `cells.txt` beside this script: `cell parameters multiply-accumulates` a line, of cells drawn at random, as PyTorch counts
them for 32x32 images. Layers that no gradient reaches are not counted: the benchmark's networks have them.

    python3 crates/zoo/tests/nasbench201/write.py          (needs torch, torchvision, timm)
"""

import pathlib
import random
import sys

import torch

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2] / "engine" / "tests" / "golden"))
from families import NasBench201  # noqa: E402

OPS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]


def is_network(ops):
    """Whether the output is not zero, and no convolution that it depends on reads zeros."""
    zero, needed = [False, True, True, True], [False, False, False, True]
    edges = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    for (a, b), op in zip(edges, ops):
        zero[b] = zero[b] and (op == "none" or zero[a] and "conv" not in op)
    for (a, b), op in reversed(list(zip(edges, ops))):
        needed[a] = needed[a] or (needed[b] and op != "none")
    reads_zeros = any(zero[a] and needed[b] and "conv" in op for (a, b), op in zip(edges, ops))
    return not zero[3] and not reads_zeros


random.seed(201)
lines = []
while len(lines) < 40:
    ops = random.choices(OPS, k=6)
    if not is_network(ops):
        continue
    a, b, c, d, e, f = ops
    cell = f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"
    model = NasBench201(cell)
    macs = {}
    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            taps = module.weight[0].numel()
            module.register_forward_hook(lambda m, _, y, taps=taps: macs.update({m.weight: y[0].numel() * taps}))
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    parameters = sum(p.numel() for p in model.parameters() if p.grad is not None)
    macs = sum(count for weight, count in macs.items() if weight.grad is not None)
    lines.append(f"{cell} {parameters} {macs}\n")
(HERE / "cells.txt").write_text("".join(lines))
