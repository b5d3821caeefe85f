"""AVE-Net, AVOL-Net and L3-Net: two small VGG-like networks, and three ways in which they say whether a picture and a
sound belong together.

"Objects that Sound" (arXiv 1712.06651), figures 2 and 4. There is no official code; names of weights are those of
kyuyeonpooh/objects-that-sound.

Shape suffixes: B pairs, D channels, H x W cells of the picture.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIGN = 0.7, 1.2
"""Size of AVE-Net's first weights and biases under sign initialisation: p = 0.5 at a distance of 1.7. The paper says
signs alone; the numbers are kyuyeonpooh/objects-that-sound's (`model/avolnet.py`, in a comment)."""
TINY = 1e-12
"""Under the root of a distance, whose gradient at 0 would be no number."""


@dataclass
class AVENetConfig:
    """The network; defaults are the paper's."""

    fusion: Literal["distance", "map", "concat"] = "distance"
    """How a picture and a sound meet: by the distance of two embeddings (AVE-Net), by the largest of the products of
    the sound's embedding with those of the picture's cells (AVOL-Net), or as one vector (L3-Net)."""
    widths: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    """Channels of the four blocks of both networks."""
    dim: int = 128
    """Length of the embeddings; of L3-Net's the last of `widths`, and this is its hidden layer's."""
    sign_init: bool = True
    """Whether the last layer begins with signs by which what is near (AVE-Net), or of a large product (AVOL-Net),
    belongs together. They are not enforced afterwards."""
    relu_between: bool = True
    """ReLU between AVOL-Net's two convolutions of 1 x 1, which are AVE-Net's linear layers made convolutional;
    kyuyeonpooh/objects-that-sound has none."""


def trunk(channels: int, widths: list[int]) -> nn.Sequential:
    """[B, channels, X, Y] -> [B, widths[-1], about X / 16, Y / 16]: blocks of two convolutions, pooled in between."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for block, width in enumerate(widths, 1):
        for place in (1, 2):
            name, stride = f"{block}_{place}", 2 if block == place == 1 else 1
            layers[f"conv{name}"] = nn.Conv2d(channels, width, 3, stride, padding=1)
            layers[f"bn{name}"] = nn.BatchNorm2d(width)
            layers[f"relu{name}"] = nn.ReLU(inplace=True)
            channels = width
        if block < len(widths):
            layers[f"pool{block}"] = nn.MaxPool2d(2)
    return nn.Sequential(layers)


class Correspondence(nn.Module):
    """What the three have in common. A subclass says what of a picture and of a sound meets, and what comes of it."""

    def __init__(self, config: AVENetConfig):
        super().__init__()
        self.image = trunk(3, config.widths)
        self.sound = trunk(1, config.widths)

    def see(self, image_B3HW: Tensor) -> Tensor:
        """Pictures -> what `odds` compares; [B, D] or, of AVOL-Net, [B, D, H, W]."""
        return self.seen(self.image(image_B3HW).amax((2, 3)))

    def seen(self, image_BC: Tensor) -> Tensor:
        """What the image network gives, of a whole picture or of a cell -> [B, D]."""
        return image_BC

    def hear(self, sound_B1KF: Tensor) -> Tensor:
        """Log-spectrograms, frequency first -> [B, D]."""
        return self.sound(sound_B1KF).amax((2, 3))

    def odds(self, seen: Tensor, heard_BD: Tensor) -> Tensor:
        """[B] log-odds that a picture and a sound belong together."""
        raise NotImplementedError

    def cells(self, image_B3HW: Tensor, heard_BD: Tensor) -> Tensor:
        """[B, H, W] the log-odds of each cell, as if a picture were nothing else; of AVOL-Net, what it learns from."""
        image_BCHW = self.image(image_B3HW)
        cell_NC = image_BCHW.flatten(2).mT.flatten(0, 1)
        cells = image_BCHW.shape[2:]
        odds_N = self.odds(self.seen(cell_NC), heard_BD.repeat_interleave(cells.numel(), 0))
        return odds_N.view(-1, *cells)


class AVENet(Correspondence):
    """All that a pair is judged by is one number, the distance of its embeddings of length 1."""

    def __init__(self, config: AVENetConfig):
        super().__init__(config)
        self.image_head = head(config)
        self.sound_head = head(config)
        self.fc3 = nn.Linear(1, 2)
        if config.sign_init:
            with torch.no_grad():
                self.fc3.weight.copy_(torch.tensor([[-SIGN[0]], [SIGN[0]]]))
                self.fc3.bias.copy_(torch.tensor([SIGN[1], -SIGN[1]]))

    def seen(self, image_BC: Tensor) -> Tensor:
        return F.normalize(self.image_head(image_BC).float(), dim=1)

    def hear(self, sound_B1KF: Tensor) -> Tensor:
        return F.normalize(self.sound_head(super().hear(sound_B1KF)).float(), dim=1)

    def logits(self, seen_BD: Tensor, heard_BD: Tensor) -> Tensor:
        """[B, 2]: they belong together, they do not."""
        distance_B1 = ((seen_BD - heard_BD).square().sum(1, keepdim=True) + TINY).sqrt()
        return self.fc3(distance_B1)

    def odds(self, seen: Tensor, heard_BD: Tensor) -> Tensor:
        together_B, apart_B = self.logits(seen, heard_BD).unbind(1)
        return together_B - apart_B


class AVOLNet(Correspondence):
    """The sound is compared with each cell of the picture, and the best cell decides. Nothing has a fixed length, so
    that a background can be silent."""

    def __init__(self, config: AVENetConfig):
        super().__init__(config)
        self.image_head = nn.Sequential(
            nn.Conv2d(config.widths[-1], config.dim, 1),
            nn.ReLU(inplace=True) if config.relu_between else nn.Identity(),
            nn.Conv2d(config.dim, config.dim, 1),
        )
        self.sound_head = head(config)
        self.conv7 = nn.Conv2d(1, 1, 1)
        if config.sign_init:
            with torch.no_grad():
                for parameter, value in zip(self.conv7.parameters(), (1.0, 0.0), strict=True):
                    parameter.fill_(value)

    def see(self, image_B3HW: Tensor) -> Tensor:
        return self.image_head(self.image(image_B3HW))

    def hear(self, sound_B1KF: Tensor) -> Tensor:
        return self.sound_head(super().hear(sound_B1KF))

    def cells(self, image_B3HW: Tensor, heard_BD: Tensor) -> Tensor:
        return self.map(self.see(image_B3HW), heard_BD)

    def map(self, seen_BDHW: Tensor, heard_BD: Tensor) -> Tensor:
        """[B, H, W] log-odds that what is heard is to be seen in a cell."""
        product_BHW = torch.einsum("bdhw,bd->bhw", seen_BDHW.float(), heard_BD.float())
        return self.conv7(product_BHW[:, None])[:, 0]

    def odds(self, seen: Tensor, heard_BD: Tensor) -> Tensor:
        return self.map(seen, heard_BD).flatten(1).max(1).values


class L3Net(Correspondence):
    """Look, Listen and Learn's network, with the first stride of 2 that it has here: the baseline without a bottleneck,
    whose embeddings nothing brings together."""

    def __init__(self, config: AVENetConfig):
        super().__init__(config)
        self.fusion = nn.Sequential(
            nn.Linear(2 * config.widths[-1], config.dim), nn.ReLU(inplace=True), nn.Linear(config.dim, 2)
        )

    def logits(self, seen_BD: Tensor, heard_BD: Tensor) -> Tensor:
        """[B, 2]: they belong together, they do not."""
        return self.fusion(torch.cat([seen_BD, heard_BD], 1))

    def odds(self, seen: Tensor, heard_BD: Tensor) -> Tensor:
        together_B, apart_B = self.logits(seen, heard_BD).unbind(1)
        return together_B - apart_B


def head(config: AVENetConfig) -> nn.Sequential:
    """[B, widths[-1]] -> [B, dim]."""
    return nn.Sequential(
        nn.Linear(config.widths[-1], config.dim), nn.ReLU(inplace=True), nn.Linear(config.dim, config.dim)
    )


NETS: dict[str, type[Correspondence]] = {"distance": AVENet, "map": AVOLNet, "concat": L3Net}
