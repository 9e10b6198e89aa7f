"""Channels and heads that hardly vary, replaced by their mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.strategy import Count, Share, Strategy

if TYPE_CHECKING:
    from torch import Tensor

    from paredown.engines.biases import Biases
    from paredown.engines.removal import Candidates


def fluctuation(inputs: Tensor, weight: Tensor) -> Tensor:
    """How much is lost of each input j where its mean replaces it, (inputs,): Var(X_j) ||W_:j||^2 (arXiv 2312.11983, section 3).

    `inputs` is (tokens, inputs), `weight` (outputs, inputs); the variance is that of a sample.
    """
    import torch

    variance, _ = torch.var_mean(inputs.float(), dim=0, correction=1 if len(inputs) > 1 else 0)
    return variance * weight.float().square().sum(dim=0)


class Flap(Strategy):
    """Remove the feed-forward channels, and heads, whose output fluctuates least, and add what they gave on average as a bias.

    Scores are standardised block by block and compared over all blocks, heads by the mean over their inputs and weighed by their
    weights; each block keeps one of each at least. One pass over calibration tokens through the dense model sees all of it. Blocks get
    different widths: the result loads with paredown, and in stock transformers with `uniform` where the class knows such biases.

    Source: An et al. 2024, arXiv 2312.11983, section 3 (WIFV, AL-AM, baseline bias compensation).
    Costs: one forward pass over the calibration tokens; memory of one block and its activations.
    Control: prune.wanda_sp
    Not for: mixtures of experts; classes whose heads all have one width that follows from their number.
    """

    tags: ClassVar[tuple[str, ...]] = (
        "when-after",
        "what-channels",
        "what-heads",
        "how-norm",
        "scope-global",
        "speedup-universal",
        "needs-data",
    )
    systems: ClassVar[tuple[int, ...]] = (80,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    sparsity: Share = 0.5  # share that is removed: of the feed-forward channels, or with heads of the weights of both
    heads: bool = False  # heads compete with channels, as in the paper; needs the extra `prune`
    bias: bool = True  # make removed units good by a bias, in layers that may have none
    uniform: bool = False  # fill blocks up to the widest with zeros: the same function, larger, but stock transformers loads it
    calibration_tokens: Count = 32_768  # tokens to calibrate on, about; the paper takes 1024 windows of 128
    length: Annotated[int, Field(ge=0)] = 0  # tokens of a calibration window; 0: the model's context

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines.estimates import calibrated

        return calibrated(inputs.get("model"), self.calibration_tokens)

    def __call__(self, model: Model, calibration: Tokens) -> Model:
        """The smaller model.

        Raises:
            DataError: a weight or an input is NaN or infinite, the checkpoint is a pickle, or there are no tokens.
            MissingExtra: heads are to go, and Torch-Pruning is not installed.
            UserError: the model has no such units, its class has no place for what would be left, or the tokens are of another vocabulary.
        """
        import torch

        from paredown.engines import allocation, biases, layers, removal, structure
        from paredown.engines.masks import share

        kinds = [structure.channels(model), *([structure.heads(model, whole=True)] if self.heads else [])]
        ids = layers.calibration(calibration, model, self.calibration_tokens, self.length)
        notes = removal.observe(model, kinds, ids, _note)
        scores = [[torch.tensor(noted[units.kind]["scores"]) for noted in notes] for units in kinds]
        costs = [[1.0] * len(notes)] if not self.heads else [units.weights() for units in kinds]
        total = sum(
            cost * len(of_block) for kind, prices in zip(scores, costs, strict=True) for of_block, cost in zip(kind, prices, strict=True)
        )
        budget = total - (total * self.sparsity if self.heads else share(int(total), self.sparsity))
        chosen = allocation.best_of_all([s for kind in scores for s in kind], [c for prices in costs for c in prices], budget)
        rows = [chosen[number * len(notes) : (number + 1) * len(notes)] for number in range(len(kinds))]
        constants: Biases = {}
        for units, kept in zip(kinds, rows, strict=True) if self.bias else ():
            constants |= biases.of_removed(model, units, kept, [torch.tensor(noted[units.kind]["means"]) for noted in notes])
        return removal.take(model, kinds, rows, uniform=self.uniform, biases=constants)


def _note(found: Candidates) -> dict[str, list[float]]:
    """The standardised score of each unit of a block, and the mean of each input of the layer that uses them."""
    from paredown.engines.allocation import standardised

    assert found.inputs is not None
    (weight, columns), *_ = found.uses
    scores = fluctuation(found.inputs.x, weight)
    # the reference squares what it knows of heads before it standardises
    scores = standardised(scores.square() if found.units.kind == "heads" else scores)
    return {"scores": scores[columns].mean(dim=1).tolist(), "means": found.inputs.x.float().mean(dim=0).tolist()}
