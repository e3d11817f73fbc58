"""Makes the golden files beside it: arrays as numpy writes them. Run: python make.py"""

from pathlib import Path

import numpy

HERE = Path(__file__).parent


def main():
    values = numpy.arange(24).reshape(2, 3, 4)
    for name in ["float16", "float32", "float64", "uint8", "int8", "uint16", "int32", "int64", "bool"]:
        numpy.save(HERE / f"{name}.npy", values.astype(name))
    numpy.save(HERE / "fortran.npy", numpy.asfortranarray(values.astype("float32")))
    numpy.save(HERE / "big_endian.npy", values.astype(">f8"))
    numpy.save(HERE / "scalar.npy", numpy.float32(2.5))
    numpy.save(HERE / "complex.npy", values.astype("complex64"))


if __name__ == "__main__":
    main()
