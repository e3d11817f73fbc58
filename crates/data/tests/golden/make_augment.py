"""Makes the golden files of the augmentations beside it: what Pillow, torchvision and timm do with the same small image.

    python make_augment.py

Needs pillow 13, numpy, torch, torchvision 0.29 and timm 1.0.31. Each picture is a column of tiles, one a line of the text
file of the same name.
"""

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.data import auto_augment as timm
from torchvision.transforms import InterpolationMode, autoaugment as tv
from torchvision.transforms import functional as F

HERE = Path(__file__).parent
HEIGHT, WIDTH = 14, 18
FILL = (124, 116, 104)


def picture():
    """The picture that src/augment/auto/tests.rs makes as well: ramps and edges, no channel over its full range."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.int64)
    edge = ((x // 4 + y // 5) % 2) * 70
    noise = (x * x * 31 + y * y * 17 + x * y * 7) % 41
    return np.stack([20 + x * 6 + edge + noise, 200 - y * 9 - edge, 40 + 3 * x + 5 * y + noise], 2).astype(np.uint8)


class Tiles:
    def __init__(self, name):
        self.name, self.tiles, self.lines = name, [], []

    def add(self, image, *line):
        self.tiles.append(np.asarray(image))
        self.lines.append(" ".join(map(str, line)))

    def save(self):
        Image.fromarray(np.concatenate(self.tiles)).save(HERE / f"{self.name}.png", optimize=True)
        (HERE / f"{self.name}.txt").write_text("\n".join(self.lines) + "\n")


def timm_op(name, level, negative, interpolation, image):
    """One of timm's operations at a level, with the given sign; uniform numbers are 0.7 of their range."""
    hparams = dict(translate_const=100, img_mean=FILL if image.mode == "RGB" else FILL[0], interpolation=interpolation)
    saved = random.random, random.uniform
    random.random, random.uniform = (lambda: 0.9 if negative else 0.1), (lambda a, b: a + (b - a) * 0.7)
    op = timm.AugmentOp(name, prob=1.0, magnitude=level, hparams=hparams)
    result = op(image)
    random.random, random.uniform = saved
    return result


def operations():
    rgb = Image.fromarray(picture())
    tiles = Tiles("timm-operations")
    names = [name for name in timm.NAME_TO_OP if name not in ("TranslateX", "TranslateY")]
    kinds = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    for index, name in enumerate(names):
        for level in range(11):
            negative = level % 2 == 1
            kind = ("bilinear", "bicubic")[(index + level // 2) % 2]
            try:
                tile = timm_op(name, level, negative, kinds[kind], rgb)
            except ValueError:
                # Pillow refuses to keep no bits; TensorFlow's models, from which the operation comes, give black.
                assert name.startswith("Posterize")
                tile = Image.fromarray(np.zeros_like(picture()))
            tiles.add(tile, name, level, int(negative), kind)
    tiles.save()

    tiles = Tiles("timm-operations-grey")
    grey = rgb.convert("L")
    for name in names:
        if name not in ("Posterize", "PosterizeIncreasing"):
            tiles.add(timm_op(name, 6, True, Image.Resampling.BICUBIC, grey), name, 6, 1, "bicubic")
    tiles.save()

    tiles = Tiles("torchvision-operations")
    spaces = {
        "rand": tv.RandAugment()._augmentation_space(31, (HEIGHT, WIDTH)),
        "wide": tv.TrivialAugmentWide()._augmentation_space(31),
    }
    for space, ops in spaces.items():
        for name, (magnitudes, signed) in ops.items():
            for number, at in enumerate(range(0, 31, 5)):
                magnitude = magnitudes[at].item() if magnitudes.ndim else 0.0
                negative = signed and number % 2 == 1
                magnitude = -magnitude if negative else magnitude
                kind = ("nearest", "bilinear")[number // 2 % 2]
                mode = InterpolationMode.NEAREST if kind == "nearest" else InterpolationMode.BILINEAR
                tiles.add(tv._apply_op(rgb, name, magnitude, mode, None), space, name, at, int(negative), kind)
    tiles.save()

    tiles = Tiles("torchvision-colours")
    for factor in (-0.5, -0.31, -0.1, -0.004, 0.0, 0.02, 0.17, 0.25, 0.5):
        tiles.add(F.adjust_hue(rgb, factor), "hue", factor)
    for factor in (0.0, 0.13, 0.5, 0.97, 1.0, 1.6, 5.0):
        tiles.add(F.adjust_brightness(rgb, factor), "brightness", factor)
        tiles.add(F.adjust_contrast(rgb, factor), "contrast", factor)
        tiles.add(F.adjust_saturation(rgb, factor), "saturation", factor)
    for angle in (-180.0, -91.5, 0.0, 12.25, 45.0, 90.0):
        tiles.add(F.rotate(rgb, angle), "rotate", angle)
    tiles.add(F.to_grayscale(rgb, 3), "grayscale", 0)
    tiles.save()

    # torchvision's blur reflects at most side - 1 pixels, so that its image is larger: 26 x 30.
    tiles = Tiles("torchvision-blur")
    large = Image.fromarray(np.asarray(rgb).repeat(2, 0).repeat(2, 1)[:26, :30])
    for sigma in (0.1, 0.4, 1.0, 1.37, 2.0):
        tiles.add(F.gaussian_blur(large, 23, sigma), "gaussian", sigma)
    tiles.save()


def tables():
    lines = []
    spaces = {
        "auto": tv.AutoAugment()._augmentation_space(10, (HEIGHT, WIDTH)),
        "rand": tv.RandAugment()._augmentation_space(31, (HEIGHT, WIDTH)),
        "wide": tv.TrivialAugmentWide()._augmentation_space(31),
    }
    for space, ops in spaces.items():
        for name in spaces["wide"]:
            magnitudes = ops[name][0] if name in ops else torch.tensor(0.0)
            for at, magnitude in enumerate(magnitudes if magnitudes.ndim else []):
                value = magnitude.item()
                value = float(int(value)) if name.startswith("Translate") else value
                lines.append(f"{space} {name} {at} {np.format_float_positional(np.float32(value), trim='-')}")
    (HERE / "torchvision-magnitudes.txt").write_text("\n".join(lines) + "\n")

    lines = []
    for name in ("original", "originalr", "v0", "v0r", "3a"):
        for number, steps in enumerate(timm.auto_augment_policy(name)):
            steps = (f"{op.name} {op.prob:g} {op.magnitude:g}" for op in steps)
            lines.append(f"{name} {number} " + ", ".join(steps))
    for name, increasing in ("plain", False), ("increasing", True), ("weights", True), ("3aw", True), ("3a", True):
        choices = timm.rand_augment_choices(name, increasing)
        choices = choices.items() if isinstance(choices, dict) else ((op, 1) for op in choices)
        lines.append(f"{name} " + ", ".join(f"{op} {weight:g}" for op, weight in choices))
    lines.append("augmix " + ", ".join(timm._AUGMIX_TRANSFORMS))
    policies = {"imagenet": tv.AutoAugmentPolicy.IMAGENET, "cifar10": tv.AutoAugmentPolicy.CIFAR10,
                "svhn": tv.AutoAugmentPolicy.SVHN}
    for name, policy in policies.items():
        for number, pair in enumerate(tv.AutoAugment(policy).policies):
            lines.append(f"{name} {number} " + ", ".join(f"{op} {p:g} {at or 0}" for op, p, at in pair))
    (HERE / "policies.txt").write_text("\n".join(lines) + "\n")


def aug_mix():
    """timm's two ways of mixing, with fixed weights and chains: the image of src/augment/auto/aug_mix.rs."""
    for blended in False, True:
        count = [3]

        def chain(image):
            count[0] += 1
            return Image.fromarray((np.asarray(image).astype(np.int64) * count[0] + 90).astype(np.uint8))

        mix = timm.AugMixAugment([chain], depth=1, blended=blended)
        image = Image.fromarray(np.array([[[at % 251, at // 251, 7] for at in (0, 1)], [[2, 0, 7], [3, 0, 7]]], np.uint8))
        weights, share = np.float32([0.2, 0.5, 0.3]), np.float32(0.7)
        result = (mix._apply_blended if blended else mix._apply_basic)(image, weights, share)
        print("BLENDED" if blended else "BASIC", np.asarray(result).reshape(-1).tolist())


operations()
tables()
aug_mix()
