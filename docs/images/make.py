"""Draws predictions.png: test images of shapes10 and what a trained run says of them.

    cargo run --release -- train
    python docs/images/make.py runs/1-resnet20-shapes10       (needs Pillow)

Takes the first three test images of each class, and frames wrong answers in red.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

RESIDUAL = "target/release/residual"
SIDE, GAP, TEXT, ROWS = 96, 10, 30, 3


def main(run):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "shapes10"
        subprocess.run([RESIDUAL, "data", "export", "shapes10", folder], check=True, stdout=subprocess.DEVNULL)
        classes = sorted(path for path in (folder / "test").iterdir())
        images = [sorted(path.iterdir())[row] for row in range(ROWS) for path in classes]
        answer = subprocess.run(
            [RESIDUAL, "predict", "--weights", run, "--json", *map(str, images)], check=True, capture_output=True
        )
        sheet = Image.new("RGB", (len(classes) * (SIDE + GAP) + GAP, ROWS * (SIDE + TEXT + GAP) + GAP), "white")
        draw = ImageDraw.Draw(sheet)
        font = ImageFont.load_default(size=13)
        for index, (path, prediction) in enumerate(zip(images, json.loads(answer.stdout)["predictions"])):
            best = prediction["top"][0]
            x = GAP + index % len(classes) * (SIDE + GAP)
            y = GAP + index // len(classes) * (SIDE + TEXT + GAP)
            sheet.paste(Image.open(path).resize((SIDE, SIDE), Image.Resampling.NEAREST), (x, y))
            right = best["label"] == path.parent.name
            if not right:
                draw.rectangle((x - 3, y - 3, x + SIDE + 2, y + SIDE + 2), outline="#d22", width=3)
            text = f"{best['label']} {100 * best['probability']:.0f} %"
            draw.text((x + SIDE / 2, y + SIDE + 6), text, fill="#222" if right else "#d22", font=font, anchor="mt")
    sheet.quantize(200).save(Path(__file__).parent / "predictions.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
