"""Wanda's score of whole feed-forward channels, compared over all blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.strategy import Count, Share, Strategy

if TYPE_CHECKING:
    from torch import Tensor

    from paredown.engines.removal import Candidates


def wanda_scores(down: Tensor, activity: Tensor) -> Tensor:
    """The mean over the outputs i of |W_ij| ||X_j||_2 for each channel j of `down` (width, channels), with mean 0 and variance 1.

    `activity` (channels,) is the norm of each channel over the tokens; what scales all of a block's norms alike makes no difference.
    """
    from paredown.engines.allocation import standardised

    return standardised((down.abs().float() * activity).mean(dim=0))


class WandaSp(Strategy):
    """Remove the feed-forward channels whose weights times activation norms are small, by one threshold for standardised scores.

    One pass over calibration tokens through the dense model sees all blocks, which get different widths; each keeps one channel
    at least. prune.channels removes by the same score the same share of every block, each seen as those before it have become.

    Source: An et al. 2024, arXiv 2312.11983, section 3 (the baseline Wanda-sp, with that paper's standardised comparison of blocks); the
        score is that of Sun et al. 2023, arXiv 2306.11695.
    Costs: one forward pass over the calibration tokens; memory of one block and its activations.
    Control: prune.channels
    Not for: mixtures of experts.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-channels", "how-norm", "scope-global", "speedup-universal", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (80,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    sparsity: Share = 0.5  # share of all blocks' feed-forward channels that is removed, 0 <= s < 1
    uniform: bool = False  # fill blocks up to the widest with zeros: the same function, larger, but stock transformers loads it
    calibration_tokens: Count = 32_768  # tokens to calibrate on, about
    length: Annotated[int, Field(ge=0)] = 0  # tokens of a calibration window; 0: the model's context

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines.estimates import calibrated

        return calibrated(inputs.get("model"), self.calibration_tokens)

    def __call__(self, model: Model, calibration: Tokens) -> Model:
        """The smaller model.

        Raises:
            DataError: a weight or an input is NaN or infinite, the checkpoint is a pickle, or there are no tokens.
            UserError: the model has no feed-forward channels that can be removed, or the tokens are of another vocabulary.
        """
        import torch

        from paredown.engines import allocation, layers, removal, structure
        from paredown.engines.masks import share

        def note(found: Candidates) -> list[float]:
            assert found.inputs is not None
            (weight, columns), *_ = found.uses
            of_each: list[float] = wanda_scores(weight[:, columns.flatten()], found.inputs.norms[columns.flatten()]).tolist()
            return of_each

        units = structure.channels(model)
        ids = layers.calibration(calibration, model, self.calibration_tokens, self.length)
        scores = [torch.tensor(noted["channels"]) for noted in removal.observe(model, [units], ids, note)]
        total = sum(len(of_block) for of_block in scores)
        rows = allocation.best_of_all(scores, [1.0] * len(scores), total - share(total, self.sparsity))
        return removal.take(model, [units], [rows], uniform=self.uniform)
