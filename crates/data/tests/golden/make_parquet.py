"""Writes the parquet files that tests/suite/parquet.rs reads, in the layout of the Hugging Face library. Run in this folder.

pip install pyarrow pillow numpy
"""

import io
import json
import os

import numpy
import pyarrow
import pyarrow.parquet
from PIL import Image

NAMES = ["ant", "bee", "cow"]


def image(number):
    file = io.BytesIO()
    Image.fromarray(numpy.full((4, 5, 3), [10 * number, 10, 200], numpy.uint8)).save(file, "PNG")
    return file.getvalue()


def features(label):
    return json.dumps({"info": {"features": {"image": {"_type": "Image"}, "label": label}}})


def table(first, count, labels, metadata):
    images = pyarrow.array(
        [{"bytes": image(number), "path": f"{number}.png"} for number in range(first, first + count)],
        pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]),
    )
    columns = {"image": images, "extra": pyarrow.array([0.5] * count), "label": labels}
    return pyarrow.table(columns).replace_schema_metadata({"huggingface": metadata} if metadata else None)


def write(path, *table_arguments, **options):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    pyarrow.parquet.write_table(table(*table_arguments), path, **options)


def numbers(first, count):
    return pyarrow.array([number % 3 for number in range(first, first + count)])


# As the library writes: ClassLabel, snappy, dictionaries, small row groups, several files of a split.
named = features({"_type": "ClassLabel", "names": NAMES})
write("hub/data/train-00000-of-00002.parquet", 0, 10, numbers(0, 10), named, row_group_size=4)
write("hub/data/train-00001-of-00002.parquet", 10, 3, numbers(10, 3), named)
write("hub/data/test-00000-of-00001.parquet", 20, 2, numbers(20, 2), named)
# Each page of one image, of both versions; packed by gzip and plain.
options = dict(data_page_size=1, write_batch_size=1, use_dictionary=False)
write("parquet/pages.parquet", 0, 5, numbers(0, 5), named, data_page_version="2.0", compression="gzip", **options)
write("parquet/plain.parquet", 0, 5, numbers(0, 5), named, compression="none", **options)
# Names as labels, without metadata.
write("parquet/names.parquet", 0, 3, pyarrow.array(["cow", "ant", "cow"]), None)
write("parquet/int32.parquet", 0, 3, pyarrow.array([2, 0, 2], pyarrow.int32()), None)
write("parquet/unlabelled.parquet", 0, 3, pyarrow.array([0, -1, 1]), named)
write("parquet/null.parquet", 0, 3, pyarrow.array([0, None, 1]), named)
write("parquet/zstd.parquet", 0, 3, numbers(0, 3), named, compression="zstd")
# Two columns of classes, images as bytes, one of them missing.
two = json.dumps({"info": {"features": {
    "img": {"_type": "Image"},
    "coarse_label": {"_type": "ClassLabel", "names": ["x"]},
    "fine_label": {"_type": "ClassLabel", "names": NAMES},
}}})
cifar = pyarrow.table({
    "img": pyarrow.array([image(0), None, image(2)]),
    "coarse_label": pyarrow.array([0, 0, 0]),
    "fine_label": pyarrow.array([2, 1, 0]),
}).replace_schema_metadata({"huggingface": two})
pyarrow.parquet.write_table(cifar, "parquet/cifar.parquet")
pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array(["a"]), "label": pyarrow.array([1])}), "parquet/text.parquet")
