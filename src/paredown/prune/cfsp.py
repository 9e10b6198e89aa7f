"""Feed-forward channels, coarse to fine: blocks that turn their input more keep more, and in each the busiest and most relied on stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.core.strategy import Count, Positive, Share, Strategy

if TYPE_CHECKING:
    from torch import Tensor

    from paredown.engines.removal import Candidates

SCALE = 1e4 / (128 * 1024)  # the reference divides importances by 1e4, which are sums over 128 x 1024 tokens


def keep_shares(importance: Sequence[float], sparsity: float, tokens: int, steepness: float = 1.0) -> list[float]:
    """The share of its channels that each block keeps; their mean is 1 - `sparsity`, none is above 1.

    The importance I of a block is how much it turns hidden states, summed over the tokens (`engines.hidden_states.change`).
    z = sigmoid(a (I - mean I) / tau) with tau proportional to the tokens, share = z / mean z (1 - sparsity); where that
    exceeds 1, deviations from the mean shrink until the largest share is below it (arXiv 2409.13199, section 3.2, and its code).
    """
    mean = math.fsum(importance) / len(importance)
    arguments = [steepness * (value - mean) / (SCALE * max(1, tokens)) for value in importance]
    z = [1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x)) for x in arguments]
    middle = math.fsum(z) / len(z)
    if max(z) > middle and max(z) / middle * (1 - sparsity) >= 1:
        factor = middle * (1 / (1 - sparsity) - 1) / (max(z) - middle) / 1.05
        z = [middle + factor * (value - middle) for value in z]
    return [value / middle * (1 - sparsity) for value in z]


def channel_scores(
    down: Tensor, makes: Sequence[Tensor], activity: Tensor, normalise: str = "column", weight_power: float = 1.0, power: float = 1.0
) -> Tensor:
    """What each channel is worth, (channels,): its shares of the weights times its activity (arXiv 2409.13199, section 3.3).

    `down` is (width, channels), each of `makes` (channels, width), `activity` s (channels,). With U = |down| s^b the score is the mean
    over the width of (U / sum U + the same of each of |makes|) s^c. The sum of `column`, as in the reference, runs over the width: then
    each term's mean is 1 / width whatever the weights, and the ranking is that of s^c alone. That of `row` runs over the channels.
    `wanda` is the mean of |down| s.
    """
    used = down.abs().float()
    if normalise == "wanda":
        return (used * activity).mean(dim=0)
    terms = [used * activity**weight_power, *(weight.abs().float().T for weight in makes)]
    total = sum((term / term.sum(dim=0 if normalise == "column" else 1, keepdim=True).clamp(min=1e-30)).mean(dim=0) for term in terms)
    return total * activity**power


class Cfsp(Strategy):
    """Remove feed-forward channels, more from the blocks that change their input least, and there the least active ones.

    One pass over calibration tokens through the dense model sees all blocks. The blocks get different widths: the result loads with
    paredown, and in stock transformers with `uniform`. Beside the model `pruning.json` says of each block its importance.

    Source: Wang et al. 2024, arXiv 2409.13199, sections 3.2 and 3.3; the counts of channels are rounded so that the total is exact.
    Costs: one forward pass over the calibration tokens; memory of one block and its activations.
    Control: prune.wanda_sp; without the coarse step: importance constant; without the fine one: normalise random.
    Not for: mixtures of experts.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-channels", "how-norm", "scope-global", "speedup-universal", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (80,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    sparsity: Share = 0.5  # share of all blocks' feed-forward channels that is removed, 0 <= s < 1
    importance: Literal["angular", "cosine", "mse", "mae", "constant"] = "angular"  # how blocks are compared; constant: all alike
    steepness: Positive = 1.0  # a: how much more an important block keeps
    normalise: Literal["column", "row", "wanda", "random"] = "column"  # how channels are compared; the reference's column is activity alone
    weight_power: Annotated[float, Field(ge=0)] = 1.0  # b: of the activity beside the weights that use a channel
    power: Annotated[float, Field(ge=0)] = 1.0  # c: of the activity in the score
    multiple_of: Count = 1  # the number of channels of a block is a multiple of this; the paper takes 128 on GPUs
    uniform: bool = False  # fill blocks up to the widest with zeros: the same function, larger, but stock transformers loads it
    calibration_tokens: Count = 32_768  # tokens to calibrate on, about; the paper takes 131,072
    length: Annotated[int, Field(ge=0)] = 0  # tokens of a calibration window; 0: the model's context

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines.estimates import calibrated

        return calibrated(inputs.get("model"), self.calibration_tokens)

    def __call__(self, model: Model, calibration: Tokens) -> Model:
        """The smaller model.

        Raises:
            DataError: a weight or an input is NaN or infinite, the checkpoint is a pickle, or there are no tokens.
            UserError: the model has no feed-forward channels that can be removed, the tokens are of another vocabulary, or nothing would be
                removed in such multiples.
        """
        import torch

        from paredown.engines import allocation, hidden_states, layers, removal, structure
        from paredown.engines.masks import share

        units = structure.channels(model)
        ids = layers.calibration(calibration, model, self.calibration_tokens, self.length)

        def note(found: Candidates) -> list[float]:
            return self._scores(found, len(ids)).tolist()

        notes = removal.observe(model, [units], ids, note, lambda before, after: hidden_states.change(before, after, self.importance))
        importance = [noted["block"] for noted in notes]
        shares = keep_shares(importance, self.sparsity, ids.numel(), self.steepness)
        sizes = [group.units for group in units.groups]
        wanted = [size * part for size, part in zip(sizes, shares, strict=True)]
        kept = allocation.apportioned(wanted, sizes, sum(sizes) - share(sum(sizes), self.sparsity), self.multiple_of)
        if sum(kept) == sum(sizes) and share(sum(sizes), self.sparsity):
            raise UserError(
                f"nothing would be removed: blocks have {max(sizes):,} channels, too few for multiples of {self.multiple_of:,}",
                where="prune.cfsp.multiple_of",
                todo="lower multiple_of",
            )
        rows = [allocation.best(torch.tensor(noted["channels"]), count) for noted, count in zip(notes, kept, strict=True)]
        report = [{"importance": value, "share": part} for value, part in zip(importance, shares, strict=True)]
        return removal.take(model, [units], [rows], uniform=self.uniform, report=report)

    def _scores(self, found: Candidates, sequences: int) -> Tensor:
        """What the channels of a block are worth, (channels,)."""
        import torch

        if self.normalise == "random":
            return torch.from_numpy(context().generator("channels", found.name).random(found.group.units))
        assert found.inputs is not None
        (weight, columns), *_ = found.uses
        columns = columns.flatten()
        activity = found.inputs.norms[columns] / sequences**0.5
        makes = [matrix[indices.flatten()] for matrix, indices in found.makes]
        return channel_scores(weight[:, columns], makes, activity, self.normalise, self.weight_power, self.power)
