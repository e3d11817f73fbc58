"""Writes the archive that tests/suite/sources.rs trains on: noise in two classes, sorted by class. Run in this folder; needs numpy."""

import numpy

random = numpy.random.default_rng(3)
images = random.integers(0, 256, (12, 16, 16, 3), numpy.uint8)
numpy.savez("noise.npz", images=images, labels=numpy.repeat([0, 1], 6))
