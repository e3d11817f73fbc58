"""Reads the event file of a run with the tensorboard package and compares it with metrics.csv and events.jsonl.

    pip install tensorboard
    python bench/read_tensorboard.py runs/1-resnet20-shapes10
"""

import csv
import json
import math
import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run = pathlib.Path(sys.argv[1])
events = EventAccumulator(str(run / "tensorboard"))
events.Reload()
tags = events.Tags()["scalars"]
scalars = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in tags}


def same(tag, step, expected):
    got = scalars[tag][step]
    assert math.isclose(got, float(expected), rel_tol=1e-6), f"{tag} at {step}: expected {expected}, got {got}"


steps = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
assert sorted(scalars["train/loss"]) == [step["step"] for step in steps]
for step in steps:
    same("train/loss", step["step"], step["loss"])
    same("train/lr", step["step"], step["lr"])
rows = list(csv.DictReader((run / "metrics.csv").open()))
columns = {"train_loss": "epoch/train_loss", "train_top1": "epoch/train_top1", "loss": "val/loss", "top1": "val/top1",
           "top5": "val/top5", "raw_loss": "val_raw/loss", "raw_top1": "val_raw/top1", "raw_top5": "val_raw/top5"}
for row in rows:
    for column, tag in columns.items():
        if row[column]:
            same(tag, int(row["step"]), row[column])
print(f"{len(steps)} steps and {len(rows)} epochs of {', '.join(tags)}: equal to events.jsonl and metrics.csv")
