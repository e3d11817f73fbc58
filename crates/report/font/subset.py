"""Makes dejavu-sans.ttf, the font of the pictures: the glyphs of DejaVu Sans 2.37 that charts need.

    pip install fonttools matplotlib
    python subset.py

matplotlib's package contains DejaVu Sans. The glyphs: Latin (class names of European languages), Greek and the signs of
formulas and tables. Layout tables and hints are dropped: the pictures are rendered without them.
"""

import importlib.util
import pathlib

from fontTools import subset

matplotlib = pathlib.Path(importlib.util.find_spec("matplotlib").origin).parent
source = matplotlib / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
target = pathlib.Path(__file__).with_name("dejavu-sans.ttf")

text = [*range(0x20, 0x7F), *range(0xA0, 0x180), *range(0x391, 0x3CA)]
signs = [ord(sign) for sign in "–—‘’“”•…‰′″⁰¹⁴⁵⁶⁷⁸⁹⁻₀₁₂₃₄₅₆₇₈₉←↑→↓↔⇒∂∇∈∑−√∞∥≈≠≤≥⊕⊙■□▲△▶▼◀●○✓✗"]

options = subset.Options()
options.hinting = False
options.name_IDs = [0, 1, 2, 6, 13, 14]
options.notdef_outline = True
options.drop_tables += ["FFTM", "GDEF", "GSUB", "GPOS", "kern", "gasp", "MATH"]
font = subset.load_font(source, options)
subsetter = subset.Subsetter(options)
subsetter.populate(unicodes=text + signs)
subsetter.subset(font)
subset.save_font(font, target, options)
print(target, target.stat().st_size, "bytes")
