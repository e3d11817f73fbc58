#!/usr/bin/env python3
"""Writes the tables beside this script from the torchvision and timm that are installed:

- `pretrained.txt`: a line for each name of pretrained weights that `crates/zoo/src/weights.txt` lists: the name, where its
  file lies (a file of torchvision's, a repository of the hub's for timm), the side of the network's input, the side
  that the shorter side of an image is resized to, their quotient (`crop_pct`), the filter, the statistics, and the
  `crop_mode` where it is not timm's default;
- `imagenet.txt`: the names of ImageNet's classes, a line each.

    python3 crates/hub/src/write.py
"""

import math
import pathlib

import timm
import torchvision

HERE = pathlib.Path(__file__).parent
NAMES = HERE.parent.parent / "zoo" / "src" / "weights.txt"
BASE = "https://download.pytorch.org/models/"

STATISTICS = {
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)): "imagenet",
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)): "half",
    ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)): "clip",
}


def share(size, resize):
    """The shortest decimal number that resizes as many pixels."""
    for digits in range(1, 8):
        for value in (round(size / resize, digits), round(size / resize - 10**-digits, digits)):
            if 0 < value <= 1 and math.floor(size / value) == resize:
                return f"{value:.{digits}f}"
    raise ValueError((size, resize))


def torchvision_line(full):
    network, version = full.split(".")
    weights = torchvision.models.get_model_weights(network)[f"IMAGENET1K_{version.upper()}"]
    transform = weights.transforms()
    assert weights.url.startswith(BASE), weights.url
    assert weights.meta["categories"] == torchvision.models._meta._IMAGENET_CATEGORIES
    (size,), (resize,) = transform.crop_size, transform.resize_size
    # torchvision's GoogLeNet converts images normalised with ImageNet's statistics itself (`transform_input`).
    half = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    statistics = STATISTICS[half if network == "googlenet" else (tuple(transform.mean), tuple(transform.std))]
    file = weights.url.removeprefix(BASE)
    return f"{file} {size} {resize} {share(size, resize)} {transform.interpolation.value} {statistics}"


def timm_line(full):
    config = timm.get_pretrained_cfg(full)
    assert config.num_classes == 1000 and config.hf_hub_filename is None
    # What timm falls back to for names without an address of their own.
    repository = config.hf_hub_id or f"timm/{full}"
    _, size, width = config.input_size
    assert size == width
    resize = math.floor(size / config.crop_pct)
    mode = "" if config.crop_mode == "center" else f" {config.crop_mode}"
    statistics = STATISTICS[config.mean, config.std]
    return f"{repository} {size} {resize} {config.crop_pct} {config.interpolation} {statistics}{mode}"


def main():
    lines = []
    for name in (name for line in NAMES.read_text().splitlines() for name in line.split()[1:]):
        source, full = name.split(":")
        line = torchvision_line(full) if source == "torchvision" else timm_line(full)
        lines.append(f"{name} {line}\n")
    (HERE / "pretrained.txt").write_text("".join(lines))
    (HERE / "imagenet.txt").write_text("".join(f"{name}\n" for name in torchvision.models._meta._IMAGENET_CATEGORIES))


if __name__ == "__main__":
    main()
