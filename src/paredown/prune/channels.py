"""Whole feed-forward channels, attention heads and filters: tensors really shrink, and every kernel is faster."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.model import OWN, Model
from paredown.artifacts.tokens import Tokens
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.core.strategy import Count, Share, Strategy

if TYPE_CHECKING:
    from torch import Tensor

    from paredown.engines.removal import Candidates, Slice
    from paredown.engines.units import Group, Units


def unit_scores(makes: Sequence[Slice], uses: Sequence[Slice], score: str, input_norm: Tensor | None = None) -> Tensor:
    """What each unit is worth, (units,): larger stays.

    A unit is of the weights in `makes` some outputs, of those in `uses` some inputs. With the score `activations`, `input_norm`
    (inputs,) is the norm of each input over the calibration tokens: the sum over the unit's inputs c of sum_i |W_ic| ||X_c||_2, which
    is Wanda's score summed over its columns. `weights` is the product over all weights of the L2 norm of what is the unit's; `l1`
    is the sum of the magnitudes of all that is the unit's.
    """

    def of_units(values: Tensor, indices: Tensor, dim: int, scale: Tensor | None = None) -> Tensor:
        sums = values.sum(dim=[other for other in range(values.dim()) if other != dim])
        return (sums if scale is None else sums * scale)[indices.to(sums.device)].sum(dim=1)

    if score == "activations":
        return functools.reduce(operator.add, [of_units(weight.abs(), indices, 1, input_norm) for weight, indices in uses])
    slices = [*((weight, indices, 1) for weight, indices in uses), *((weight, indices, 0) for weight, indices in makes)]
    if score == "weights":
        return functools.reduce(operator.mul, [of_units(weight.square(), indices, dim).sqrt() for weight, indices, dim in slices])
    return functools.reduce(operator.add, [of_units(weight.abs(), indices, dim) for weight, indices, dim in slices])


def stay(units: int, sparsity: float, multiple: int) -> int:
    """How many units stay, rounded up to a multiple."""
    from paredown.engines.masks import share

    return min(units, -(-(units - share(units, sparsity)) // multiple) * multiple)


def kept_units(scores: Tensor, sparsity: float, multiple: int, sets: int = 1) -> Tensor:
    """Indices of the units that stay, ascending: the best ones of each of so many sets of neighbours; of equals the first."""
    rows = scores.view(sets, -1)
    best = rows.argsort(dim=1, descending=True, stable=True)[:, : stay(rows.shape[1], sparsity, multiple)]
    first = best.new_tensor(range(0, scores.numel(), rows.shape[1]))
    found: Tensor = (best + first[:, None]).flatten().sort().values
    return found


class Channels(Strategy):
    """Remove feed-forward channels, attention heads or filters, the same share in every block, so that the model really is smaller.

    Stock transformers loads the result; what its class could not hold is refused before anything is pruned. Llama, for example, takes
    only numbers of heads that divide its hidden size, and GPT-2 and BERT no other number at all. Of our own networks the filters go
    that only the next layer reads (those inside residual blocks), and the knobs of the architecture follow. Inputs are those that a
    block gets from what was removed before it. Heads and filters need the extra `prune`.

    Source: An et al. 2024, arXiv 2312.11983, section 3 (Wanda-sp, its control: the score of arXiv 2306.11695 summed over a channel, here
    over the columns of a head too); l1: Li et al. 2016, arXiv 1608.08710, section 3.1.
    Costs: by activations one forward pass over the calibration tokens, otherwise one pass over the weights; memory of one block.
    Control: prune.magnitude; for the shape, the same shape trained anew (arXiv 1810.05270): learn.models.llama, learn.models.resnet.
    Not for: channels of mixture-of-experts layers, which lie in many experts; filters on a residual stream.
    """

    tags: ClassVar[tuple[str, ...]] = (
        "when-after",
        "what-channels",
        "what-heads",
        "how-norm",
        "scope-block",
        "speedup-universal",
        "needs-data",
    )
    systems: ClassVar[tuple[int, ...]] = (41, 80)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    sparsity: Share = 0.5  # share of each block's feed-forward channels, or of each layer's filters, that is removed, 0 <= s < 1
    heads: Share = 0.0  # share of each block's attention heads that is removed
    grouped: Literal["whole", "within"] = "whole"  # where queries share keys: a head of keys goes with its queries, or queries of each
    score: Literal["activations", "weights", "l1", "random"] = "activations"  # weights times activation norm, L2 or L1 of weights, chance
    multiple: Count = 4  # the number of channels or filters that stay is rounded up to a multiple of this; kernels like 8 or 64
    calibration_tokens: Count = 32_768  # tokens to calibrate on, about
    length: Annotated[int, Field(ge=0)] = 0  # tokens of a calibration window; 0: the model's context

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines.estimates import calibrated

        return calibrated(inputs.get("model"), self.calibration_tokens)

    def __call__(self, model: Model, calibration: Tokens | None = None) -> Model:
        """The smaller model.

        Raises:
            DataError: a weight or an input is NaN or infinite, the checkpoint is a pickle, or there are no tokens.
            MissingExtra: heads or filters are to go, and Torch-Pruning is not installed.
            UserError: there are no calibration tokens but the score needs them, the model has no such units, or its class has no place
                for what would be left.
        """
        from paredown.engines import layers, removal, structure

        if OWN in model.config:
            if self.score == "activations" or self.heads:
                raise UserError(
                    "a network of our own has filters and no heads, and its filters are scored by their weights",
                    where=str(model.path),
                    todo="set score: l1, and heads: 0",
                )
            found = structure.filters(model)
            return removal.from_network(found, [self._left(found, group) for group in found.groups], self._choose)
        if calibration is None and self.score == "activations":
            raise UserError("the score activations needs calibration tokens", where="calibration", todo="give them, or set score: weights")
        kinds = [structure.channels(model)] if self.sparsity or not self.heads else []
        kinds += [structure.heads(model, self.grouped == "whole")] if self.heads else []
        ids = None
        if self.score == "activations" and calibration is not None:
            ids = layers.calibration(calibration, model, self.calibration_tokens, self.length)
        kept = [[self._left(kind, group) for group in kind.groups] for kind in kinds]
        return removal.from_blocks(model, kinds, kept, ids, self._choose)

    def _share(self, units: Units) -> tuple[float, int]:
        return (self.heads, 1) if units.kind == "heads" else (self.sparsity, self.multiple)

    def _left(self, units: Units, group: Group) -> int:
        """How many of a group's units stay."""
        return units.sets * stay(group.units // units.sets, *self._share(units))

    def _choose(self, found: Candidates) -> Tensor:
        import torch

        kind = found.units.kind
        if self.score == "random":
            draw = context().generator("heads" if kind == "heads" else "channels", found.name).random(found.group.units)
            scores = torch.from_numpy(draw)
        else:
            # the L1 norm of a channel or a filter is that of its own weights, that of a head has also the columns that use it
            uses = found.uses if kind == "heads" or self.score != "l1" else []
            norms = found.inputs.norms if found.inputs is not None and self.score == "activations" else None
            scores = unit_scores(found.makes, uses, self.score, norms)
        return kept_units(scores, *self._share(found.units), found.units.sets)
