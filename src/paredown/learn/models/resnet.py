"""A small residual network for small images."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import model_validator

from paredown.core.strategy import Count
from paredown.engines.parts import Architecture

if TYPE_CHECKING:
    from torch import nn


def resnet_parameters(
    channels: int, classes: int, widths: tuple[int, ...], blocks: tuple[int, ...], inner: tuple[int, ...] | None = None
) -> int:
    """Weights of the network: convolutions without biases, two for each channel of a batch norm, and the linear layer."""
    total = 9 * channels * widths[0] + 2 * widths[0] + widths[-1] * classes + classes
    places = [width for width, count in zip(widths, blocks, strict=True) for _ in range(count)]
    for entering, leaving, within in zip([widths[0], *places], places, inner or places, strict=False):
        total += 9 * within * (entering + leaving) + 2 * (within + leaving)
    return total


class Resnet(Architecture):
    """A residual network for small images: 3x3 convolutions with batch norms in basic blocks, shortcuts without weights.

    With three blocks a stage it is ResNet-20, with nine ResNet-56. Each stage after the first halves the image. Weights
    start from Kaiming's normal values. Batch norms see one micro-batch, so `accumulate` changes the result.

    Source: He et al. 2015, arXiv 1512.03385, section 4.2 (shortcuts of option A); initial weights as in arXiv 1502.01852, eq. 10.
    Costs: 9 weights for each pair of channels, used at every pixel of the stage's image.
    Control: none (it is the dense model that savings are measured against).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-weights", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (41,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    channels: Count = 3  # of the images: 3 where they have colours, 1 where they are grey
    classes: Count = 10  # labels, numbered from 0
    widths: tuple[Count, ...] = (16, 32, 64)  # channels of each stage; they never fall
    blocks: tuple[Count, ...] = (3, 3, 3)  # blocks of each stage
    inner: tuple[Count, ...] | None = None  # channels between the convolutions of each block, in order; by default its stage's

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.widths or len(self.widths) != len(self.blocks):
            raise ValueError(
                f"widths and blocks must name the same stages: there are {len(self.widths)} widths and {len(self.blocks)} blocks"
            )
        if list(self.widths) != sorted(self.widths):
            raise ValueError(f"widths must not fall from stage to stage: {list(self.widths)}")
        if self.inner is not None and len(self.inner) != sum(self.blocks):
            raise ValueError(f"inner must hold a width for each of the {sum(self.blocks)} blocks, not {len(self.inner)}")
        return self

    def parameters(self, vocab_size: int) -> int:
        return resnet_parameters(self.channels, self.classes, self.widths, self.blocks, self.inner)

    def build(self, vocab_size: int, end_of_text: int) -> nn.Module:
        from paredown.engines.image_networks import ResidualNetwork

        inner = self.inner or [width for width, count in zip(self.widths, self.blocks, strict=True) for _ in range(count)]
        return ResidualNetwork(self.channels, self.classes, self.widths, self.blocks, inner)
