"""Writes mix.safetensors: batches that torchvision.transforms.v2 mixed, and what it drew for each.

Needs torch, torchvision and safetensors; run it in this folder. Images are stored as n x height x width x channels.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torchvision.transforms import v2

CLASSES = 5
# Images, height, width, channels; alpha; seed.
MIXUP = [((4, 8, 8, 3), 0.8, 1), ((5, 7, 3, 1), 0.2, 2), ((2, 1, 1, 2), 1.0, 3), ((3, 20, 19, 3), 0.4, 4)]
CUTMIX = [
    ((4, 8, 8, 3), 1.0, 1),
    ((5, 7, 3, 1), 1.0, 2),
    ((2, 1, 1, 2), 1.0, 3),
    ((3, 9, 16, 4), 0.5, 4),
    ((7, 16, 9, 3), 1.0, 5),
    ((2, 15, 15, 3), 2.0, 6),
    ((2, 5, 400, 3), 0.2, 13),
]

tensors = {}
randint = torch.randint
for kind, cases in [(v2.MixUp, MIXUP), (v2.CutMix, CUTMIX)]:
    for shape, alpha, seed in cases:
        torch.manual_seed(seed)
        count, height, width, channels = shape
        images = torch.randn(count, channels, height, width)
        labels = randint(CLASSES, (count,))
        mix = kind(alpha=alpha, num_classes=CLASSES)
        drawn, centre, params = [], [], []
        sample, make_params = mix._dist.sample, mix.make_params
        mix._dist.sample = lambda shape: drawn.append(sample(shape)) or drawn[-1]
        mix.make_params = lambda flat: params.append(make_params(flat)) or params[-1]
        torch.randint = lambda *a, **k: centre.append(randint(*a, **k)) or centre[-1]
        mixed, targets = mix(images, labels)
        torch.randint = randint
        name = f"{kind.__name__.lower()}{seed}"
        tensors[f"{name}.images"] = images.permute(0, 2, 3, 1).contiguous()
        tensors[f"{name}.labels"] = labels
        tensors[f"{name}.mixed"] = mixed.permute(0, 2, 3, 1).contiguous()
        tensors[f"{name}.targets"] = targets.float()
        tensors[f"{name}.lambda"] = drawn[0].double().reshape(1)
        if kind is v2.CutMix:
            # torchvision draws the column first.
            tensors[f"{name}.centre"] = torch.cat([centre[1], centre[0]])
            tensors[f"{name}.box"] = torch.tensor(params[0]["box"])

save_file(tensors, Path(__file__).with_name("mix.safetensors"))
