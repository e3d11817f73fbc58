"""Writes the files beside this script that torch's tools leave behind, with the network and values of `make.py`.

    python tools.py                   (needs torch; the files here are from torch 2.15)
"""

from collections import OrderedDict

import numpy as np
import torch
from safetensors.numpy import save_file
from torch.nn.utils import prune

from make import HERE, state_dict


def main():
    net, state = state_dict()

    # timm's avg_checkpoints.py writes floats only; so does .half() on every tensor. 5 becomes 5.75: torch truncates it.
    floats = {key: tensor if tensor.is_floating_point() else tensor.double() + 0.75 for key, tensor in state.items()}
    torch.save(floats, HERE / "counter_double.pth")
    torch.save({key: tensor.half() for key, tensor in state.items()}, HERE / "counter_half.pth")

    # A tensor with an attribute, one in a parameter, and a buffer that repeats its values.
    tagged = dict(state)
    tagged["fc.weight"] = state["fc.weight"].clone()
    tagged["fc.weight"].tag = "x"
    tagged["fc.bias"] = torch.nn.Parameter(state["fc.bias"].clone())
    tagged["fc.bias"].tag = "y"
    torch.save(tagged, HERE / "attributes.pth")
    expanded = dict(state)
    expanded["fc.weight"] = torch.tensor([[0.5], [1.0], [1.5]]).expand(3, 2)
    torch.save(expanded, HERE / "expanded.pth")

    # torch before 1.6, with the protocols that came later, and beside a tensor that is none of a network.
    for protocol in (4, 5):
        torch.save(state, HERE / f"legacy_protocol{protocol}.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    beside = {"state_dict": state, "other": {"complex": torch.ones(3, dtype=torch.complex64)}}
    torch.save(beside, HERE / "legacy_complex.pth", _use_new_zipfile_serialization=False)

    # Pruned, with the mask still beside the values; then the product, as `prune.remove` makes it.
    torch.manual_seed(0)
    prune.random_unstructured(net.fc, "weight", 0.5)
    torch.save(net.state_dict(), HERE / "pruned.pth")
    prune.remove(net.fc, "weight")
    torch.save(net.state_dict(), HERE / "pruned_removed.pth")

    # Two of three elements of a weight, and where they are: docs/weights.md.
    elements = state["conv1.weight"].flatten().numpy()
    is_kept = np.arange(elements.size) % 3 > 0
    parts = {key: tensor.numpy() for key, tensor in state.items() if key != "conv1.weight"}
    parts["conv1.weight_values"] = elements[is_kept]
    parts["conv1.weight_bits"] = np.packbits(is_kept, bitorder="little")
    save_file(parts, HERE / "sparse_weight.safetensors")

    # Averaged weights beside the last ones.
    last = {key: tensor * 0 for key, tensor in state.items()}
    torch.save({"state_dict": last, "ema": state}, HERE / "ema.pth")

    # What thop leaves.
    counted = OrderedDict(state)
    for module in ("", "conv1.", "fc."):
        for name in ("total_ops", "total_params"):
            counted[module + name] = torch.zeros(1, dtype=torch.float64)
    torch.save(counted, HERE / "profiled.pth")

    # Refused: values that are no numbers, a pickled module in a dictionary, a TorchScript archive.
    damaged = dict(state)
    damaged["fc.weight"] = state["fc.weight"].clone()
    damaged["fc.weight"][1] = float("nan")
    damaged["fc.weight"][2, 0] = float("inf")
    torch.save(damaged, HERE / "not_finite.pth")
    torch.save({"epoch": 1, "model": torch.nn.Linear(1, 1)}, HERE / "module_inside.pth")
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1, 1)), str(HERE / "torchscript.pt"))


if __name__ == "__main__":
    main()
