"""Whole blocks."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.core.strategy import Count, Share, Strategy


def kept_blocks(scores: list[float], sparsity: float) -> list[int]:
    """Numbers of the blocks that stay, ascending: the best ones, of equals the first; one at least."""
    from paredown.engines.masks import share

    best = sorted(range(len(scores)), key=lambda number: -scores[number])
    return sorted(best[: len(scores) - share(len(scores), sparsity)])


class Layers(Strategy):
    """Remove the blocks that change their input least; those behind them move up, and stock transformers loads the result.

    A block whose computation depends on its place is refused before anything is written.

    Source: Men et al. 2024, arXiv 2403.03853, section 3.1 (influence: 1 - cos of a block's input and output, averaged over tokens).
    Costs: by influence one forward pass over the calibration tokens; otherwise nothing but copying.
    Control: prune.layers with score random.
    Not for: networks of our own.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-layers", "how-redundancy", "scope-global", "speedup-universal", "needs-data")
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    sparsity: Share = 0.25  # share of the blocks that is removed, 0 <= s < 1
    score: Literal["influence", "angular", "last", "random"] = "influence"  # 1 - cos, the angle, the last blocks go, chance
    calibration_tokens: Count = 32_768  # tokens to calibrate on, about
    length: Annotated[int, Field(ge=0)] = 0  # tokens of a calibration window; 0: the model's context

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines.estimates import calibrated

        return calibrated(inputs.get("model"), self.calibration_tokens)

    def __call__(self, model: Model, calibration: Tokens | None = None) -> Model:
        """The shallower model.

        Raises:
            DataError: a weight or an input is NaN or infinite, the checkpoint is a pickle, or there are no tokens.
            UserError: there are no calibration tokens but the score needs them, or a block would compute something else in its new place.
        """
        from paredown.engines import depth, hidden_states, layers, removal

        names = depth.block_names(model)
        if self.score == "random":
            scores = context().generator("blocks").random(len(names)).tolist()
        elif self.score == "last":
            scores = [-float(number) for number in range(len(names))]
        else:
            if calibration is None:
                raise UserError(
                    f"the score {self.score} needs calibration tokens", where="calibration", todo="give them, or set score: last"
                )
            ids = layers.calibration(calibration, model, self.calibration_tokens, self.length)
            metric = "cosine" if self.score == "influence" else "angular"
            notes = removal.observe(model, [], ids, lambda _: None, lambda before, after: hidden_states.change(before, after, metric))
            scores = [noted["block"] / ids.numel() for noted in notes]
        return depth.take(model, kept_blocks(scores, self.sparsity), [{"score": score} for score in scores])
