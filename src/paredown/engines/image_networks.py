"""Small networks for images and features: a residual network and a perceptron, with inner widths of any size.

Their prunable layers lie in `blocks`, a `ModuleList`; the first convolution and the last layer stay outside of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from paredown.core.errors import UserError


def initialize(module: nn.Module) -> None:
    """Kaiming's normal weights, standard deviation sqrt(2 / inputs of a unit), and biases of zero (arXiv 1502.01852, eq. 10)."""
    for child in module.modules():
        # on the meta device there is nothing to draw, yet trying to imports torch's compiler, 1.5 s
        if isinstance(child, (nn.Conv2d, nn.Linear)) and not child.weight.is_meta:
            nn.init.kaiming_normal_(child.weight, mode="fan_in", nonlinearity="relu")
            if child.bias is not None:
                nn.init.zeros_(child.bias)


def shapes(widths: Sequence[int], blocks: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(channels that enter, channels that leave, stride) of every block; each stage after the first halves the image."""
    entering = widths[0]
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for place in range(count):
            yield entering, width, 2 if stage and not place else 1
            entering = width


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norms beside a shortcut without weights; `inner` is the width between the convolutions.

    Where the block has more channels than enter it, the shortcut is padded with channels of zeros; where it makes the image
    smaller, the shortcut takes every `stride`-th pixel.
    """

    def __init__(self, entering: int, inner: int, leaving: int, stride: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, leaving - entering
        self.conv1 = nn.Conv2d(entering, inner, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, leaving, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(leaving)

    def forward(self, x: Tensor) -> Tensor:
        """(B, entering, H, W) -> (B, leaving, ceil(H / stride), ceil(W / stride))."""
        inside = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        beside = x[:, :, :: self.stride, :: self.stride] if self.stride > 1 else x
        if self.padding:
            beside = functional.pad(beside, (0, 0, 0, 0, 0, self.padding))
        return functional.relu(inside + beside)


class ResidualNetwork(nn.Module):
    """A convolution, residual blocks in stages, the mean over the image, and a linear layer."""

    def __init__(self, channels: int, classes: int, widths: Sequence[int], blocks: Sequence[int], inner: Sequence[int]) -> None:
        super().__init__()
        self.channels = channels
        self.conv = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.blocks = nn.ModuleList(
            ResidualBlock(entering, within, leaving, stride)
            for (entering, leaving, stride), within in zip(shapes(widths, blocks), inner, strict=True)
        )
        self.head = nn.Linear(widths[-1], classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, channels, height, width) -> scores (B, classes).

        Raises:
            UserError: the images have another number of channels.
        """
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise UserError(
                f"the model takes images of {_count(self.channels, 'channel')}, but a row of the examples is of shape {tuple(x.shape[1:])}",
                todo=f"set channels: {x.shape[1]}" if x.dim() == 4 else "give examples with a column image",
            )
        x = functional.relu(self.norm(self.conv(x)))
        for block in self.blocks:
            x = block(x)
        scores: Tensor = self.head(x.mean(dim=(2, 3)))
        return scores


class HiddenLayer(nn.Module):
    """A linear layer and its ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.linear(x))


class Perceptron(nn.Module):
    """Hidden layers over all numbers of a row, and a linear layer."""

    def __init__(self, inputs: int, classes: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.inputs = inputs
        sizes = (inputs, *hidden)
        self.blocks = nn.ModuleList(HiddenLayer(before, after) for before, after in zip(sizes, hidden, strict=False))
        self.head = nn.Linear(sizes[-1], classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Rows of any shape with `inputs` numbers each, (B, ...) -> scores (B, classes).

        Raises:
            UserError: the rows hold another count of numbers.
        """
        x = torch.flatten(x, 1)
        if x.shape[1] != self.inputs:
            raise UserError(
                f"the model takes rows of {self.inputs:,} numbers, but those of the examples hold {x.shape[1]:,}",
                todo=f"set inputs: {x.shape[1]}",
            )
        for block in self.blocks:
            x = block(x)
        scores: Tensor = self.head(x)
        return scores


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")
