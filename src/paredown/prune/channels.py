"""Whole feed-forward channels: tensors really shrink, and every kernel is faster."""

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

    from paredown.engines.layers import Inputs, Layer


def channel_scores(down: Tensor, up: list[Tensor], input_norm: Tensor | None) -> Tensor:
    """What each channel is worth, (channels,): larger stays.

    `down` is (hidden, channels), every one of `up` (channels, hidden). With `input_norm` (channels,), the norm of each channel over
    the calibration tokens: sum_i |down_ic| ||X_c||_2, Wanda's score summed over a column. Without: the product of the L2 norms of all
    weights that make and use the channel.
    """
    if input_norm is not None:
        return down.abs().sum(dim=0) * input_norm
    score: Tensor = down.square().sum(dim=0).sqrt()
    for weight in up:
        score = score * weight.square().sum(dim=1).sqrt()
    return score


def kept_channels(scores: Tensor, sparsity: float, multiple: int) -> Tensor:
    """Indices of the channels that stay, ascending: the best ones, their number rounded up to a multiple."""
    from paredown.engines.masks import share

    channels = scores.numel()
    kept = channels - share(channels, sparsity)
    kept = min(channels, -(-kept // multiple) * multiple)
    best: Tensor = scores.argsort(descending=True, stable=True)[:kept].sort().values
    return best


class Channels(Strategy):
    """Remove feed-forward channels, the same number in every block, so that the model is smaller and stock transformers loads it.

    Inputs are those that a block gets from what was removed before it.

    Source: An et al. 2024, arXiv 2312.11983, section 3 (Wanda-sp, its control: the score of arXiv 2306.11695 summed over a channel).
    Costs: by activations one forward pass over the calibration tokens, otherwise one pass over the weights; memory of one block.
    Control: prune.magnitude.
    Not for: mixture-of-experts layers, whose channels lie in many experts.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-channels", "how-norm", "scope-block", "speedup-universal", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (41, 80)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    sparsity: Share = 0.5  # share of each block's feed-forward channels that is removed, 0 <= s < 1
    score: Literal["activations", "weights", "random"] = "activations"  # weights times activation norm, weights alone, or chance
    multiple: Count = 4  # the number of channels that stay is rounded up to a multiple of this; kernels like 8 or 64
    calibration_tokens: Count = 32_768  # tokens to calibrate on, about
    length: Annotated[int, Field(ge=0)] = 0  # tokens of a calibration window; 0: the model's context

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines.estimates import calibrated

        return calibrated(inputs.get("model"), self.calibration_tokens)

    def __call__(self, model: Model, calibration: Tokens | None = None) -> Model:
        """The narrower model.

        Raises:
            DataError: a weight or an input is NaN or infinite, the checkpoint is a pickle, or there are no tokens.
            UserError: there are no calibration tokens but the score needs them, or the model has no plain feed-forward layers.
        """
        import torch

        from paredown.engines import feed_forward, layers

        if calibration is None and self.score == "activations":
            raise UserError("the score activations needs calibration tokens", where="calibration", todo="give them, or set score: weights")
        network = feed_forward.find(model)

        def edit(layer: Layer, inputs: Inputs) -> None:
            if layer.name != network.down:
                return
            if self.score == "random":
                draw = context().generator("channels", layer.block.name).random(network.channels)
                scores = torch.from_numpy(draw).to(layer.weight.device)
            else:
                up = [layer.block.weight(name) for name in network.up]
                scores = channel_scores(layer.weight, up, inputs.norms if self.score == "activations" else None)
            stays = kept_channels(scores, self.sparsity, self.multiple)
            gone = torch.ones(network.channels, dtype=torch.bool, device=layer.weight.device)
            gone[stays] = False
            layer.weight[:, gone] = 0  # from here on the block computes what it will without these channels
            layer.block.notes["kept"] = stays.tolist()

        ids = None
        if self.score == "activations" and calibration is not None:
            ids = layers.calibration(calibration, model, self.calibration_tokens, self.length)
        walked = layers.walk(model, ids, edit)
        rows = [torch.tensor(block["notes"]["kept"]) for block in walked.blocks]
        context().facts.update(channels=network.channels, channels_kept=len(rows[0]))
        context().says = f"{len(rows[0]):,} of {network.channels:,} feed-forward channels kept"
        return layers.store(model, walked, config=network.config(len(rows[0])), cuts=network.cuts(walked.pieces, rows))
