#!/usr/bin/env python3
"""Writes what the zoo is held against, from the torchvision and timm that are installed:

- `<family>.txt` beside this script: the state dict of every network that exists there, `# name` (with its number of
  trainable parameters and of multiply-accumulates at 224x224), then `key shape` a line, in order;
- `../../src/weights.txt`: the pretrained weights of each network;
- `../../src/accuracies.txt`: what torchvision publishes of its weights on ImageNet: network, weights, top-1, top-5.

    python3 crates/zoo/tests/keys/write.py
"""

import pathlib

import timm
import torch
import torchvision

HERE = pathlib.Path(__file__).parent

TORCHVISION = {
    "resnet": ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"],
    "resnext": ["resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"],
    "wide": ["wide_resnet50_2", "wide_resnet101_2"],
    "convnext": ["convnext_tiny", "convnext_small", "convnext_base", "convnext_large"],
    "vgg": ["vgg19", "vgg19_bn"],
    "densenet": ["densenet121"],
    "googlenet": ["googlenet"],
}
TIMM = {
    "resnet_d": ["resnet18d", "resnet34d", "resnet50d", "resnet101d"],
    "seresnet": ["seresnet50"],
    "resnext": ["resnext101_32x4d"],
    "resnetv2": ["resnetv2_50", "resnetv2_101"],
}
# timm's networks that are torchvision's by another hand: the same function, and keys that `weights` reads as the same.
SAME_IN_TIMM = [
    *TORCHVISION["resnet"],
    *TORCHVISION["resnext"],
    *TORCHVISION["wide"],
    *TORCHVISION["convnext"],
    *TORCHVISION["vgg"],
    *TORCHVISION["densenet"],
]


def macs(model):
    total = 0

    def count(module, _, output):
        nonlocal total
        if isinstance(module, torch.nn.Conv2d):
            taps = module.weight[0].numel()
        else:
            taps = module.in_features
        total += output.numel() * taps

    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, 224, 224))
    return total


def listing(name, model):
    trainable = sum(parameter.numel() for parameter in model.parameters())
    lines = [f"# {name} {trainable} {macs(model)}"]
    for key, tensor in model.state_dict().items():
        lines.append(f"{key} {'x'.join(map(str, tensor.shape)) or '-'}")
    return "\n".join(lines) + "\n"


def keys():
    texts = {}
    for family, names in TORCHVISION.items():
        for name in names:
            # GoogLeNet's auxiliary classifiers are not built: they only take part in training.
            extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
            text = listing(name, torchvision.models.get_model(name, weights=None, **extra))
            texts[family] = texts.get(family, "") + text
    for family, names in TIMM.items():
        for name in names:
            texts[family] = texts.get(family, "") + listing(name, timm.create_model(name, pretrained=False))
    for family, text in texts.items():
        (HERE / f"{family}.txt").write_text(text)


def timm_weights(name):
    found = []
    for full in timm.list_pretrained(name):
        if full.split(".")[0] != name:
            continue
        config = timm.get_pretrained_cfg(full)
        usable = (config.hf_hub_id or config.url) and config.num_classes == 1000
        if usable:
            found.append(f"timm:{full}")
    default = f"timm:{name}.{timm.get_pretrained_cfg(name).tag}"
    return sorted(found, key=lambda full: (full != default, full))


def weights():
    lines = []
    torchvision_names = [name for names in TORCHVISION.values() for name in names]
    for name in torchvision_names + [name for names in TIMM.values() for name in names]:
        known = []
        if name in torchvision_names:
            for weight in torchvision.models.get_model_weights(name):
                version = weight.name.removeprefix("IMAGENET1K_").lower()
                if weight.name.startswith("IMAGENET1K_V"):
                    known.append(f"torchvision:{name}.{version}")
        if name in SAME_IN_TIMM or name not in torchvision_names:
            known += timm_weights(name)
        lines.append(" ".join([name, *known]))
    (HERE.parent.parent / "src" / "weights.txt").write_text("\n".join(lines) + "\n")


def accuracies():
    lines = []
    for name in (name for names in TORCHVISION.values() for name in names):
        for weight in torchvision.models.get_model_weights(name):
            if weight.name.startswith("IMAGENET1K_V"):
                measured = weight.meta["_metrics"]["ImageNet-1K"]
                version = weight.name.removeprefix("IMAGENET1K_").lower()
                lines.append(f"{name} torchvision:{name}.{version} {measured['acc@1']} {measured['acc@5']}")
    (HERE.parent.parent / "src" / "accuracies.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    keys()
    weights()
    accuracies()
