"""Writes small networks as others name their tensors, beside this script:

- `convnext.safetensors`: a ConvNeXt as torchvision names it; `convnext_timm.pth` and `convnext_timm_conv.safetensors`: the same
  as timm names it, with linear layers and with 1x1 convolutions; `convnext_authors.pth`: as its authors do;
- `densenet.safetensors`: a DenseNet as torchvision names it; `densenet_old.pth`: as its published files do.

    python renamed.py                 (needs torch, torchvision, timm, safetensors)
"""

import pathlib
import re

import safetensors.torch
import timm.models.convnext
import torch
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.densenet import DenseNet

HERE = pathlib.Path(__file__).parent
DEPTHS, WIDTHS = (1, 2, 1, 1), (2, 3, 4, 5)


def randomise(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.25)
    return model.eval()


def timm_name(key):
    """timm's name for torchvision's."""
    parts = key.split(".")
    if parts[0] == "classifier":
        return f"head.{'norm' if parts[1] == '0' else 'fc'}.{parts[2]}"
    stage = int(parts[1])
    if stage == 0:
        return f"stem.{parts[2]}.{parts[3]}"
    if stage % 2 == 0:
        return f"stages.{stage // 2}.downsample.{parts[2]}.{parts[3]}"
    block = f"stages.{stage // 2}.blocks.{parts[2]}"
    if parts[3] == "layer_scale":
        return f"{block}.gamma"
    return f"{block}.{ {'0': 'conv_dw', '2': 'norm', '3': 'mlp.fc1', '5': 'mlp.fc2'}[parts[4]]}.{parts[5]}"


def authors_name(key):
    """The authors' name for timm's."""
    key = re.sub(r"^stem\.", "downsample_layers.0.", key)
    key = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", key)
    key = re.sub(r"\.blocks\.", ".", key).replace("conv_dw", "dwconv").replace("mlp.fc1", "pwconv1").replace("mlp.fc2", "pwconv2")
    return key.replace("head.norm", "norm").replace("head.fc", "head")


def convnext():
    ours = [CNBlockConfig(w, n, d) for w, n, d in zip(WIDTHS, (*WIDTHS[1:], None), DEPTHS)]
    model = randomise(ConvNeXt(ours, num_classes=3))
    state = model.state_dict()
    safetensors.torch.save_file({key: tensor.contiguous() for key, tensor in state.items()}, HERE / "convnext.safetensors")
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for conv_mlp, file in ((False, "convnext_timm.pth"), (True, "convnext_timm_conv.safetensors")):
        theirs = timm.models.convnext.ConvNeXt(depths=DEPTHS, dims=WIDTHS, num_classes=3, conv_mlp=conv_mlp).eval()
        shapes = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
        renamed = {timm_name(key): tensor for key, tensor in state.items()}
        renamed = {key: renamed[key].reshape(shape).clone() for key, shape in shapes.items()}
        theirs.load_state_dict(renamed, strict=True)
        # It is the same network.
        assert torch.allclose(theirs(image), model(image), rtol=1e-4, atol=1e-5)
        if conv_mlp:
            safetensors.torch.save_file(renamed, HERE / file)
        else:
            torch.save(renamed, HERE / file)
            authors = {authors_name(key): tensor for key, tensor in renamed.items()}
            again = timm.models.convnext.checkpoint_filter_fn({"model": dict(authors)}, theirs)
            assert again.keys() == renamed.keys() and all(torch.equal(again[key], renamed[key]) for key in again)
            torch.save({"model": authors}, HERE / "convnext_authors.pth")


def densenet():
    model = randomise(DenseNet(2, (1, 1, 1, 1), 4, bn_size=2, num_classes=3))
    state = model.state_dict()
    safetensors.torch.save_file(state, HERE / "densenet.safetensors")
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): tensor for key, tensor in state.items()}
    # torchvision's own way back.
    pattern = re.compile(
        r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$"
    )
    back = {"".join(match.groups()) if (match := pattern.match(key)) else key for key in old if "num_batches" not in key}
    assert back == {key for key in state if "num_batches" not in key}
    old = {f"module.{key}": tensor for key, tensor in old.items() if "num_batches" not in key}
    torch.save({"state_dict": old}, HERE / "densenet_old.pth", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    convnext()
    densenet()
