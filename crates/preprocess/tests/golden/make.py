"""Makes the golden files beside it: what Pillow, torchvision and timm do with the same images.

    python make.py [HYMENOPTERA_FOLDER]

Needs pillow 13, numpy, torch, torchvision and timm. Every expected picture is a PNG. With the folder of ants and bees, it
also makes photographs.bin: 2,000 pixels of each of some photographs.
"""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from timm.data import create_transform
from torchvision import transforms

HERE = Path(__file__).parent
PHOTOGRAPHS = [
    "train/ants/1225872729_6f0856588f.jpg",
    "train/ants/formica.jpeg",
    "train/bees/150013791_969d9a968b.jpg",
    "val/ants/800px-Meat_eater_ant_qeen_excavating_hole.jpg",
    "val/bees/187130242_4593a4c610.jpg",
]


def pattern(height, width):
    """The picture that tests/suite/pillow.rs makes as well: ramps, sharp edges and something like noise."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    edge = ((x // 5 + y // 7) % 2) * 90
    noise = (x * x * 31 + y * y * 17 + x * y * 7) % 61
    return np.stack([(x * 3 + edge + noise) % 256, (y * 4 + edge) % 256, (x + 2 * y + noise) % 256], 2).astype(np.uint8)


def save(array, name):
    Image.fromarray(array).save(HERE / name, optimize=True)


def resizing():
    image = Image.fromarray(pattern(61, 47))
    for name, kind in ("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC):
        for height, width in (32, 32), (17, 40), (61, 20), (58, 46), (90, 70):
            save(np.asarray(image.resize((width, height), kind)), f"resize-{name}-{height}x{width}.png")


def evaluation():
    cases = [((61, 47), (32, 32), 0.875, "bilinear"), ((47, 61), (32, 32), 0.95, "bicubic"),
             ((61, 47), (24, 40), 0.9, "bicubic"), ((33, 35), (32, 32), 1.0, "bilinear")]
    for (height, width), size, crop, kind in cases:
        transform = create_transform((3, *size), interpolation=kind, crop_pct=crop, mean=(0, 0, 0), std=(1, 1, 1))
        out = transform(Image.fromarray(pattern(height, width)))
        out = (out * 255).round().byte().permute(1, 2, 0).numpy()
        save(out, f"eval-{height}x{width}-{size[0]}x{size[1]}-{crop}-{kind}.png")


def crop_modes():
    mean = (0.485, 0.456, 0.406)
    cases = [("squash", (61, 47), (32, 32), 0.875, "bicubic"), ("squash", (47, 61), (24, 40), 1.0, "bilinear"),
             ("border", (61, 47), (32, 32), 1.0, "bicubic"), ("border", (47, 61), (24, 40), 0.9, "bilinear"),
             ("border", (20, 61), (33, 24), 0.8, "bilinear")]
    for mode, (height, width), size, crop, kind in cases:
        transform = create_transform((3, *size), interpolation=kind, crop_pct=crop, crop_mode=mode, mean=mean, std=(1, 1, 1))
        out = transform(Image.fromarray(pattern(height, width))) + torch.tensor(mean)[:, None, None]
        out = (out * 255).round().byte().permute(1, 2, 0).numpy()
        save(out, f"eval-{mode}-{height}x{width}-{size[0]}x{size[1]}-{crop}-{kind}.png")


def ten_crop():
    """One above the other, as torchvision's TenCrop gives them."""
    crops = transforms.TenCrop(16)(transforms.Resize(20)(Image.fromarray(pattern(24, 30))))
    save(np.concatenate([np.asarray(crop) for crop in crops]), "ten-crop.png")


def orientations():
    """A PNG file for each orientation, and its upright pixels in exif.txt: height, width and red values."""
    lines = []
    for number in range(1, 9):
        image, exif = Image.fromarray(pattern(2, 3)), Image.Exif()
        exif[274] = number
        image.save(HERE / f"exif-{number}.png", exif=exif)
        upright = np.asarray(ImageOps.exif_transpose(Image.open(HERE / f"exif-{number}.png")))
        lines.append(" ".join(map(str, [*upright.shape[:2], *upright[:, :, 0].reshape(-1)])))
    (HERE / "exif.txt").write_text("\n".join(lines) + "\n")
    exif = Image.Exif()
    exif[274] = 6
    smooth = Image.fromarray(pattern(15, 18))
    smooth.save(HERE / "exif-6.jpg", exif=exif)
    smooth.save(HERE / "exif-6.webp", exif=exif, lossless=True)
    smooth.save(HERE / "exif-6.tif", tiffinfo={274: 6})


def png(colour, depth, width, height, rows):
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    raw = b"".join(b"\0" + row for row in rows)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def formats():
    # 45x53: the last blocks of every subsampling are partly outside.
    smooth = Image.fromarray(pattern(15, 18)).resize((53, 45), Image.Resampling.BICUBIC)
    grey, alpha = smooth.convert("L"), Image.fromarray(pattern(45, 53)[:, :, 1])
    files = {
        "jpeg-444.jpg": (smooth, dict(quality=85, subsampling=0)),
        "jpeg-422.jpg": (smooth, dict(quality=85, subsampling=1)),
        "jpeg-420.jpg": (smooth, dict(quality=85, subsampling=2)),
        "jpeg-420-progressive.jpg": (smooth, dict(quality=70, subsampling=2, progressive=True)),
        "jpeg-420-restart.jpg": (smooth, dict(quality=90, subsampling=2, restart_marker_blocks=2)),
        "jpeg-422-progressive.jpg": (smooth, dict(quality=40, subsampling=1, progressive=True)),
        "jpeg-420-3x5.jpg": (smooth.crop((20, 20, 25, 23)), dict(quality=90, subsampling=2)),
        "jpeg-420-5x3.jpg": (smooth.crop((20, 20, 23, 25)), dict(quality=90, subsampling=2, optimize=True)),
        "jpeg-rgb.jpg": (smooth, dict(quality=85, keep_rgb=True)),
        "jpeg-grey.jpg": (grey, dict(quality=85)),
        "jpeg-cmyk.jpg": (smooth.convert("CMYK"), dict(quality=90)),
        "palette.png": (smooth.quantize(16), dict(transparency=3, optimize=True)),
        "grey-alpha.png": (Image.merge("LA", (grey, alpha)), dict(optimize=True)),
        "rgba.png": (Image.merge("RGBA", (*smooth.split(), alpha)), dict(optimize=True)),
        "bilevel.png": (grey.convert("1"), dict(optimize=True)),
        "lossless.webp": (smooth, dict(lossless=True)),
        "lossy.webp": (smooth, dict(quality=80)),
        "rgb.bmp": (smooth.crop((0, 0, 13, 11)), {}),
        "palette.gif": (smooth.quantize(16), {}),
        "transparent.gif": (smooth.quantize(16), dict(transparency=3, interlace=1)),
        "rgb.tif": (smooth.crop((0, 0, 13, 11)), {}),
        "grey-deflate.tiff": (grey, dict(compression="tiff_adobe_deflate")),
        "rgba-lzw.tif": (Image.merge("RGBA", (*smooth.split(), alpha)), dict(compression="tiff_lzw")),
        "bilevel.tif": (grey.convert("1").crop((0, 0, 13, 11)), {}),
        "rgb.ppm": (smooth.crop((0, 0, 13, 11)), {}),
        "grey.pgm": (grey.crop((0, 0, 13, 11)), {}),
        "bilevel.pbm": (grey.convert("1").crop((0, 0, 13, 11)), {}),
    }
    for name, (image, options) in files.items():
        image.save(HERE / name, **options)
    # Pillow does not write these two. With other factors in the header the same blocks make another picture.
    square = Image.fromarray(pattern(20, 20)).resize((64, 64), Image.Resampling.BICUBIC)
    for name, subsampling, old, new in ("jpeg-440.jpg", 1, 0x21, 0x12), ("jpeg-411.jpg", 2, 0x22, 0x41):
        square.save(HERE / name, quality=85, subsampling=subsampling)
        data = (HERE / name).read_bytes()
        frame = data.index(b"\xff\xc0") + 11
        assert data[frame] == old
        (HERE / name).write_bytes(data[:frame] + bytes([new]) + data[frame + 1 :])
        files[name] = None
    # Nor inks as luminance and chrominance: what Adobe's marker says of the same blocks.
    data = (HERE / "jpeg-cmyk.jpg").read_bytes()
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    (HERE / "jpeg-ycck.jpg").write_bytes(data[:transform] + b"\2" + data[transform + 1 :])
    files["jpeg-ycck.jpg"] = None
    # An animation; a plain (ASCII) PPM with a maximum of 15.
    small = smooth.crop((0, 0, 13, 11)).quantize(8)
    small.save(HERE / "animation.gif", save_all=True, append_images=[small.rotate(180)], duration=100)
    (HERE / "plain.ppm").write_bytes(b"P3\n# made by hand\n2 2\n15\n0 7 15  3 3 3\n15 0 1  8 9 10\n")
    files["animation.gif"] = files["plain.ppm"] = None
    wide = pattern(9, 11).astype(np.uint16) * 251 + 97
    rows = [row.astype(">u2").tobytes() for row in wide]
    (HERE / "rgb16.png").write_bytes(png(2, 16, 11, 9, rows))
    for name in [*files, "rgb16.png"]:
        save(np.asarray(Image.open(HERE / name).convert("RGB")), f"{name}.expected.png")


def photographs(folder):
    out = b""
    for name in PHOTOGRAPHS:
        pixels = np.asarray(Image.open(folder / name).convert("RGB"))
        height, width, _ = pixels.shape
        at = (np.arange(2000, dtype=np.int64) * 2654435761) % (height * width)
        path = name.encode()
        out += struct.pack("<III", len(path), height, width) + path + pixels.reshape(-1, 3)[at].tobytes()
    (HERE / "photographs.bin").write_bytes(out)


resizing()
evaluation()
crop_modes()
ten_crop()
orientations()
formats()
if len(sys.argv) > 1:
    photographs(Path(sys.argv[1]))
