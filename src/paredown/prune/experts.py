"""Whole experts of a mixture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.core.strategy import Count, Share, Strategy

if TYPE_CHECKING:
    from torch import Tensor


def kept_experts(scores: list[Tensor], sparsity: float, compare: str, least: int) -> list[Tensor]:
    """Indices of the experts of each block that stay, ascending: the best of each, or of all blocks with at least `least` of each."""
    from paredown.engines.allocation import best, best_of_all
    from paredown.engines.masks import share

    if compare == "block":
        return [best(of_block, max(least, len(of_block) - share(len(of_block), sparsity))) for of_block in scores]
    total = sum(len(of_block) for of_block in scores)
    return best_of_all(scores, [1.0] * len(scores), total - share(total, sparsity), least)


class Experts(Strategy):
    """Remove the experts that fewest tokens choose, with their rows of the router.

    As many stay in each block at least as a token chooses. Blocks that keep different numbers (`compare: all`) load with paredown, not with
    stock transformers.

    Source: Chen et al. 2022, arXiv 2206.00277, section 3 (experts by how often they are chosen).
    Costs: by usage one forward pass over the calibration tokens, otherwise one pass over the weights; memory of one block.
    Control: prune.experts with score random; prune.magnitude.
    Not for: fewer FLOPs a token: as many experts as before are chosen, only memory shrinks.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-experts", "how-norm", "scope-block", "speedup-none", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (39, 53, 93)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    sparsity: Share = 0.5  # share of the experts that is removed, 0 <= s < 1
    score: Literal["usage", "weights", "random"] = "usage"  # tokens that choose it, L2 norm of its weights, chance
    compare: Literal["block", "all"] = "block"  # an expert competes with those of its block, or of all blocks
    calibration_tokens: Count = 32_768  # tokens to calibrate on, about
    length: Annotated[int, Field(ge=0)] = 0  # tokens of a calibration window; 0: the model's context

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines.estimates import calibrated

        return calibrated(inputs.get("model"), self.calibration_tokens)

    def __call__(self, model: Model, calibration: Tokens | None = None) -> Model:
        """The smaller model.

        Raises:
            DataError: a weight or an input is NaN or infinite, the checkpoint is a pickle, or there are no tokens.
            UserError: there are no calibration tokens but the score needs them, the model has no experts, or its class has no place
                for what would be left.
        """
        import torch

        from paredown.engines import layers, removal, structure

        if calibration is None and self.score == "usage":
            raise UserError("the score usage needs calibration tokens", where="calibration", todo="give them, or set score: weights")
        units = structure.experts(model)
        ids = None
        if self.score == "usage" and calibration is not None:
            ids = layers.calibration(calibration, model, self.calibration_tokens, self.length)
        if self.score == "random":
            draw = context().generator("experts")
            scores = [torch.from_numpy(draw.random(group.units)) for group in units.groups]
        elif self.score == "usage":
            scores = [found[:, 0] for found in removal.observe_experts(model, units, ids, lambda _, inputs: float(inputs.tokens))]
        else:
            found = removal.observe_experts(model, units, None, lambda weight, _: float(weight.float().square().sum()))
            scores = [squares.sum(dim=1).sqrt() for squares in found]
        rows = kept_experts(scores, self.sparsity, self.compare, units.fewest)
        report = [{"score": of_block.tolist()} for of_block in scores]
        return removal.take(model, [units], [rows], report=report)
