"""A multilayer perceptron."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from paredown.core.strategy import Count
from paredown.engines.parts import Architecture

if TYPE_CHECKING:
    from torch import nn


class Mlp(Architecture):
    """A multilayer perceptron: hidden layers with ReLU over all numbers of a row, then a linear layer.

    Source: none (the standard network; initial weights as in He et al. 2015, arXiv 1502.01852, eq. 10).
    Costs: 2 FLOPs per weight and row forward, twice that backward.
    Control: none (it is the dense model that savings are measured against).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-weights", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (41,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    inputs: Count = 64  # numbers of a row: its features, or channels x height x width of its image
    hidden: tuple[Count, ...] = (256, 256)  # widths of the hidden layers; none makes a linear classifier
    classes: Count = 10  # labels, numbered from 0

    def parameters(self, vocab_size: int) -> int:
        return sum((before + 1) * after for before, after in pairwise((self.inputs, *self.hidden, self.classes)))

    def build(self, vocab_size: int, end_of_text: int) -> nn.Module:
        from paredown.engines.image_networks import Perceptron

        return Perceptron(self.inputs, self.classes, self.hidden)
