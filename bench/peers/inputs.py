"""Writes what every program of `../side_by_side.py` reads: weights, ONNX files, batches, an image, and PyTorch's logits.

    python inputs.py --output DIR [--image photo.jpg]

    NAME.pth, NAME.safetensors    the same state dict, from a seed, under torchvision's keys
    NAME-bN.onnx                  the network in inference mode for batches of N
    BATCHxSIDE.npy                noise, N x 3 x H x W, as if normalised
    infer-NAME-bN.json, train-... logits of PyTorch's plain form for that batch: what all others are held against
    image.jpg                     one photograph, or something drawn if none is given

Files that are there already are kept.
"""

import argparse
import json
import shutil
import warnings
from pathlib import Path

import numpy
import safetensors.torch
import torch
from PIL import Image
from torch import nn
from torch_peer import build

# Network, mode and batch of every row.
SUBJECTS = (
    ("resnet50", "infer", 1),
    ("resnet50", "infer", 8),
    ("resnet18", "infer", 1),
    ("resnet18", "infer", 8),
    ("resnet20", "train", 128),
    ("resnet56", "train", 128),
    ("resnet18", "train", 16),
    ("resnet50", "train", 16),
    ("resnext50_32x4d", "infer", 1),
    ("resnext50_32x4d", "infer", 8),
    ("resnext50_32x4d", "train", 16),
    ("convnext_tiny", "infer", 1),
    ("convnext_tiny", "infer", 8),
    ("convnext_tiny", "train", 16),
)


def seeded(name):
    """A network as training might leave it: no batch norm is the identity, no layer scale nearly zero, and the running
    statistics are those of data."""
    torch.manual_seed(0)
    model, _, side = build(name)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.1)
        norm.momentum = None  # The mean over all batches, so that few suffice.
    for key, parameter in model.named_parameters():
        if key.endswith("layer_scale"):
            nn.init.uniform_(parameter, 0.1, 0.5)
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(16, 3, side, side))
    for norm in norms:
        norm.momentum = 0.1
    return model


def write_weights(model, name, folder):
    weights = model.state_dict()
    torch.save(weights, folder / f"{name}.pth")
    safetensors.torch.save_file(weights, folder / f"{name}.safetensors")


def write_onnx(model, x, path):
    names = {"input_names": ["input"], "output_names": ["logits"]}
    torch.onnx.export(model.eval(), (x,), path, opset_version=17, dynamo=False, **names)


def write_image(path, source):
    if source:
        shutil.copyfile(source, path)
        return
    noise = numpy.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=numpy.uint8)
    Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--image", type=Path, help="a JPEG photograph for the row that names what is in one")
    options = parser.parse_args()
    folder = options.output
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")

    models = {}
    for name, mode, batch in SUBJECTS:
        if name not in models:
            models[name] = seeded(name)
            if not (folder / f"{name}.safetensors").exists():
                write_weights(models[name], name, folder)
        model, side = models[name], build(name)[2]
        images = folder / f"{batch}x{side}.npy"
        if not images.exists():
            numpy.save(images, torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(batch)).numpy())
        x = torch.from_numpy(numpy.load(images))
        onnx = folder / f"{name}-b{batch}.onnx"
        if mode == "infer" and not onnx.exists():
            write_onnx(model, x, onnx)
        logits = folder / f"{mode}-{name}-b{batch}.json"
        if not logits.exists():
            model.load_state_dict(torch.load(folder / f"{name}.pth", weights_only=True))
            with torch.no_grad():
                logits.write_text(json.dumps(model.train(mode == "train")(x).tolist()))
        print(logits.name)
    if options.image or not (folder / "image.jpg").exists():
        write_image(folder / "image.jpg", options.image)


if __name__ == "__main__":
    main()
