#!/usr/bin/env python3
"""Holds reading and writing of weights against the torchvision and timm that are installed, for every network of the zoo
that exists there:

- a state dict of random values, as torchvision and timm save them (zip and legacy .pth, .safetensors, half precision,
  wrapped as training scripts do), is read by `convert` (crates/weights/examples) and written under torchvision's keys;
- what it wrote is loaded with `strict=True`, and is the same, tensor by tensor, or, where timm has names of its own, gives
  the same logits in torchvision's network.

    cargo build -p residual-weights --example convert
    python3 crates/weights/tests/ecosystem.py target/debug/examples/convert [NAME...]
"""

import pathlib
import subprocess
import sys
import tempfile

import safetensors.torch
import timm
import torch
import torchvision

TABLE = pathlib.Path(__file__).parent.parent / "src" / "hub" / "pretrained.txt"


def networks():
    found = {}
    for line in TABLE.read_text().splitlines():
        source, full = line.split()[0].split(":")
        found.setdefault((source, full.split(".")[0]), None)
    return list(found)


def randomise(model, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if "running_var" in key:
                tensor.uniform_(0.5, 1.5)
            elif "running_mean" in key:
                tensor.normal_(0, 0.1)
            elif key.endswith("num_batches_tracked"):
                tensor.fill_(seed)
            elif key.endswith(("gamma", "layer_scale")):
                tensor.uniform_(0.1, 0.5)
            elif tensor.dim() == 1:
                tensor.add_(torch.empty_like(tensor).normal_(0, 0.1))
    return model.eval()


def forms(state):
    """Ways to save a state dict: name of the file, how it is written, and the values that it then has."""
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    yield "zip.pth", lambda path: torch.save(state, path), state
    yield "legacy.pth", lambda path: torch.save(state, path, _use_new_zipfile_serialization=False), state
    yield "plain.safetensors", lambda path: safetensors.torch.save_file(state, path), state
    module = {f"module.{key}": tensor for key, tensor in half.items()}
    checkpoint = {"epoch": 3, "arch": "x", "state_dict": module, "optimizer": {"lr": 0.1}}
    yield "half.pth", lambda path: torch.save(checkpoint, path), {k: v.float() if v.is_floating_point() else v for k, v in half.items()}
    averaged = {"model": half, "model_ema": {"n_averaged": torch.tensor(7), **module_of(state)}}
    yield "averaged.pth", lambda path: torch.save(averaged, path), state


def module_of(state):
    return {f"module.{key}": tensor for key, tensor in state.items()}


def main():
    convert, only = sys.argv[1], sys.argv[2:]
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    failed = 0
    for number, (source, name) in enumerate(networks()):
        if only and name not in only:
            continue
        if source == "torchvision":
            model = torchvision.models.get_model(name, weights=None)
        else:
            model = timm.create_model(name, pretrained=False)
        state = {key: tensor.clone() for key, tensor in randomise(model, number).state_dict().items()}
        # What is written is torchvision's where it has the network, else timm's.
        exists = name in torchvision.models.list_models()
        target = torchvision.models.get_model(name, weights=None) if exists else timm.create_model(name)
        target.eval()
        # One form of each network; the next one has the next form, and the tiny one all of them.
        every = list(forms(state))
        chosen = every if name == "resnet18" else [every[number % len(every)]]
        for form, write, expected in chosen:
            with tempfile.TemporaryDirectory() as folder:
                path, out = pathlib.Path(folder) / form, pathlib.Path(folder) / "out.safetensors"
                write(path)
                subprocess.run([convert, path, name, out], check=True)
                written = safetensors.torch.load_file(out)
                target.load_state_dict(written, strict=True)
            if written.keys() == expected.keys():
                how = "same tensors"
                same = all(torch.equal(written[key], expected[key]) for key in expected)
            else:
                how = "same logits"
                model.load_state_dict(expected)
                with torch.no_grad():
                    ours, theirs = target(image), model(image)
                difference = (ours - theirs).abs().max() / theirs.abs().max()
                how = f"same logits (to {difference:.1e} of the largest)"
                same = difference < 1e-4
            failed += not same
            print(f"{'ok' if same else 'FAILED'} {source} {name} {form}: {how}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
