"""Writes the tar shards that tests/suite/shards.rs reads, with webdataset's own writer. Run in this folder.

pip install webdataset pillow numpy
"""

import os

import numpy
import webdataset
from PIL import Image

os.makedirs("webdataset", exist_ok=True)
names = ["ant", "bee", "cow"]


def image(number):
    pixels = numpy.full((4, 5, 3), [40 * number, 10, 200], numpy.uint8)
    return Image.fromarray(pixels)


def samples(count, first):
    for number in range(first, first + count):
        yield {"__key__": f"a.b/{number:05d}", "png": image(number), "cls": number % 3,
               "json": {"label": names[number % 3], "width": 5}}


with webdataset.ShardWriter("webdataset/train-%06d.tar", maxcount=4, mtime=0, verbose=0) as writer:
    for sample in samples(6, 0):
        writer.write(sample)
with webdataset.TarWriter("webdataset/val-000000.tar", mtime=0) as writer:
    for sample in samples(2, 1):
        writer.write(sample)
with open("webdataset/classes.txt", "w") as file:
    file.write("\n".join(names) + "\n")

os.makedirs("webdataset-json", exist_ok=True)
with webdataset.TarWriter("webdataset-json/set.tar", mtime=0) as writer:
    for sample in samples(3, 0):
        del sample["cls"]
        writer.write(sample)
