"""Writes the files of arrays that tests/suite/arrays.rs reads. Run in this folder; needs numpy."""

import gzip
import struct

import numpy


def images(count, channels):
    number, row, column, channel = numpy.indices((count, 4, 5, channels), sparse=True)
    values = number * 7 + row * 3 + column + channel
    return values.astype(numpy.uint8)


labels = numpy.array([2, 0, 1, 2])
# As MedMNIST: compressed, labels of N x 1.
numpy.savez_compressed(
    "medmnist.npz",
    train_images=images(4, 3), train_labels=labels.astype(numpy.uint8)[:, None],
    val_images=images(2, 3), val_labels=labels[:2].astype(numpy.uint8)[:, None],
    test_images=images(1, 3), test_labels=numpy.array([[1]], numpy.uint8),
)
# As Keras' mnist.npz: grey images without a dimension for it, int64 labels.
numpy.savez("keras.npz", x_train=images(4, 1)[..., 0], y_train=labels, x_test=images(1, 1)[..., 0], y_test=labels[2:3])
numpy.savez(
    "multilabel.npz",
    images=numpy.arange(2 * 3 * 4 * 5, dtype=numpy.float32).reshape(2, 3, 4, 5),
    labels=numpy.array([[1, 0, 1], [0, 0, 0]]),
)
numpy.savez("other.npz", weights=labels)
with gzip.GzipFile("labels-idx1-ubyte.gz", "wb", mtime=0) as file:
    file.write(struct.pack(">BBBBI", 0, 0, 8, 1, 3) + bytes([2, 0, 9]))
