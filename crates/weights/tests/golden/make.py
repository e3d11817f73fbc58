"""Writes the files beside this script, as PyTorch and safetensors write them.

    python make.py                    (needs torch and safetensors; the files here are from torch 2.15)

The network is `conv1` (1 -> 2 channels, 3x3, no bias), `bn1`, ReLU, global mean, `fc` (2 -> 3). Element i of tensor t, counted
in the order of the state dict and row-major, is ((7 * t + i) % 64 - 32) / 16, which every float type holds exactly;
`num_batches_tracked` is 5.
"""

from collections import OrderedDict
from pathlib import Path

import safetensors.torch
import torch

HERE = Path(__file__).parent


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 2, 3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(2)
        self.fc = torch.nn.Linear(2, 3)


def state_dict():
    net = Tiny()
    for t, tensor in enumerate(net.state_dict().values()):
        if tensor.dtype == torch.int64:
            tensor.fill_(5)
        else:
            values = (7 * t + torch.arange(tensor.numel())) % 64 - 32
            tensor.copy_((values / 16).reshape(tensor.shape))
    return net, net.state_dict()


def renamed(state, prefix, **names):
    path = lambda key: ".".join(names.get(part, part) for part in key.split("."))
    return OrderedDict((prefix + path(key), tensor) for key, tensor in state.items())


def main():
    net, state = state_dict()
    torch.save(state, HERE / "zip.pth")
    torch.save(state, HERE / "legacy.pth", _use_new_zipfile_serialization=False)

    # A training script's checkpoint: wrapped, from DataParallel, with an optimiser's tensors and other values beside it.
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    _, unchanged = state_dict()
    optimiser.step()
    wrapped = {
        "epoch": 3,
        "best_prec1": 91.73,
        "args": ["--lr", 0.1, {"nothing": None}, 2**70, b"bytes"],
        "state_dict": renamed(unchanged, "module.", fc="linear"),
        "optimizer": optimiser.state_dict(),
    }
    torch.save(wrapped, HERE / "wrapped.pth")
    torch.save(wrapped, HERE / "wrapped_legacy.pth", _use_new_zipfile_serialization=False)

    # torchvision's reference scripts: the last and the averaged weights.
    averaged = renamed(unchanged, "module.")
    averaged["n_averaged"] = torch.tensor(12)
    torch.save({"model": {key: tensor * 0 for key, tensor in unchanged.items()}, "model_ema": averaged}, HERE / "averaged.pth")

    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in unchanged.items()}
    torch.save(half, HERE / "half.pth")
    torch.save({key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in unchanged.items()}, HERE / "double.pth")
    brain = {key: tensor.bfloat16() if tensor.is_floating_point() else tensor for key, tensor in unchanged.items()}
    safetensors.torch.save_file(brain, HERE / "bfloat16.safetensors")
    safetensors.torch.save_file(unchanged, HERE / "plain.safetensors", metadata={"format": "pt"})

    # Views: transposed, channels last, one storage shared at offsets; and parameters instead of tensors.
    flat = torch.cat([tensor.flatten() for tensor in unchanged.values() if tensor.is_floating_point()])
    views, offset = OrderedDict(), 0
    for key, tensor in unchanged.items():
        if not tensor.is_floating_point():
            views[key] = tensor
            continue
        views[key] = flat[offset : offset + tensor.numel()].view(tensor.shape)
        offset += tensor.numel()
    views["fc.weight"] = torch.nn.Parameter(views["fc.weight"].t().contiguous().t())
    views["conv1.weight"] = views["conv1.weight"].to(memory_format=torch.channels_last)
    torch.save(views, HERE / "views.pth")
    torch.save(views, HERE / "views_legacy.pth", _use_new_zipfile_serialization=False)

    # What is refused: a module instead of its state dict, and a sparse tensor.
    torch.save(torch.nn.Linear(1, 1), HERE / "module.pth")
    torch.save({"fc.weight": torch.eye(2).to_sparse()}, HERE / "sparse.pth")


if __name__ == "__main__":
    main()
