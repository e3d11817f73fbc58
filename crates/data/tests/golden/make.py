"""Makes the golden files beside it: tiny CIFAR batches as Python 2 and Python 3 pickle them.

    python make.py

Needs numpy. The Python 2 pickle is written by hand, instruction by instruction, as the official files have them.
"""

import pickle
import struct
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
DATA = (np.arange(2 * 3072, dtype=np.int64) * 7 % 251).astype(np.uint8).reshape(2, 3072)


class Official:
    """cPickle's protocol 2 under Python 2: strings are byte strings, and numpy's names are the old ones."""

    def __init__(self):
        self.out = b"\x80\x02"

    def string(self, text):
        self.out += b"U" + bytes([len(text)]) + text if len(text) < 256 else b"T" + struct.pack("<i", len(text)) + text
        return self

    def raw(self, code):
        self.out += code
        return self


def official():
    p = Official().raw(b"}q\x01(").string(b"batch_label").raw(b"q\x02").string(b"training batch 1 of 5")
    p.string(b"labels").raw(b"q\x03]q\x04(K\x03K\x09e").string(b"data").raw(b"q\x05")
    p.raw(b"cnumpy.core.multiarray\n_reconstruct\nq\x06cnumpy\nndarray\nq\x07K\x00\x85").string(b"b").raw(b"\x87Rq\x08")
    p.raw(b"(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nq\x09").string(b"u1").raw(b"K\x00K\x01\x87Rq\x0a(K\x03").string(b"|")
    p.raw(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89").string(DATA.tobytes()).raw(b"tb")
    p.string(b"filenames").raw(b"]q\x0b(").string(b"a.png").string(b"b.png").raw(b"eu.")
    return p.out


content = {"batch_label": "testing batch 1 of 1", "labels": [3, 9], "data": DATA, "filenames": ["a.png", "b.png"]}
assert np.array_equal(pickle.loads(official(), encoding="bytes")[b"data"], DATA)
(HERE / "cifar10-python2.pickle").write_bytes(official())
for protocol in 2, 4, 5:
    (HERE / f"cifar10-protocol{protocol}.pickle").write_bytes(pickle.dumps(content, protocol))
columns = content | {"data": np.asfortranarray(DATA)}
(HERE / "cifar10-columns.pickle").write_bytes(pickle.dumps(columns, 4))
fine = {"fine_labels": [99, 0], "coarse_labels": [1, 2], "data": DATA}
(HERE / "cifar100-protocol2.pickle").write_bytes(pickle.dumps(fine, 2))


class Attack:
    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/residual-pickle-was-executed",)


(HERE / "attack.pickle").write_bytes(pickle.dumps({"labels": [3, 9], "data": Attack()}, 2))
