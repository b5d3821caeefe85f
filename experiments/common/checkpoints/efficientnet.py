"""The names of efficientnet_pytorch's EfficientNets, of which torchvision's have the same layers."""

from __future__ import annotations

from torch import nn
from torchvision.models.efficientnet import MBConv

_LAYERS = (
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_se_reduce", "_se_expand"),
    ("_project_conv", "_bn2"),
)
"""Their names of the two modules in each layer of a block; some blocks lack the first."""


def efficientnet_pytorch_names(net: nn.Module) -> dict[str, str]:
    """Our keys of `features`, torchvision's, -> theirs."""
    modules = {
        "features.0.0": "_conv_stem",
        "features.0.1": "_bn0",
        "features.8.0": "_conv_head",
        "features.8.1": "_bn1",
    }
    blocks = [(name, module.block) for name, module in net.named_modules() if isinstance(module, MBConv)]
    for index, (name, layers) in enumerate(blocks):
        for layer, (first, second) in enumerate(_LAYERS[-len(layers) :]):
            pair = ("fc1", "fc2") if first == "_se_reduce" else ("0", "1")
            modules[f"{name}.block.{layer}.{pair[0]}"] = f"_blocks.{index}.{first}"
            modules[f"{name}.block.{layer}.{pair[1]}"] = f"_blocks.{index}.{second}"
    names = {}
    for key in net.state_dict():
        module, _, parameter = key.rpartition(".")
        if module in modules:
            names[key] = f"{modules[module]}.{parameter}"
    return names
