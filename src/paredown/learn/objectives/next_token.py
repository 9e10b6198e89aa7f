"""Next-token prediction on packed rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from paredown.artifacts.tokens import Tokens
from paredown.core.errors import UserError
from paredown.engines.parts import Objective, Rows

if TYPE_CHECKING:
    import torch

    from paredown.artifacts.examples import Examples


def next_token_loss(logits: torch.Tensor, targets: torch.Tensor, predicted: int) -> torch.Tensor:
    """Mean cross-entropy in nats of logits (..., V) against targets (...) over the `predicted` targets that are not -100."""
    from torch.nn import functional

    flat = logits.reshape(-1, logits.shape[-1]).float()
    return functional.cross_entropy(flat, targets.reshape(-1), ignore_index=-100, reduction="sum") / max(1, predicted)


class NextToken(Objective):
    """Predict each token from the tokens before it in its own document.

    Source: none (the standard objective of causal language models).
    Costs: nothing beside the forward and backward pass.
    Control: none (it is the control of the other objectives).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-weights", "speedup-none", "needs-gradients")
    extras: ClassVar[tuple[str, ...]] = ("train",)

    def rows(self, data: Tokens | Examples, length: int) -> Rows:
        from paredown.engines.batches import packed

        if not isinstance(data, Tokens):
            raise UserError(
                "next_token learns from tokens, not from examples", where="objective", todo="objective: learn.objectives.classification"
            )
        return packed(data, length)

    def prepare(self, module: torch.nn.Module) -> None:
        from paredown.engines import encoder_decoders
        from paredown.engines.packing import way_of

        encoder_decoders.refuse(module, "next-token prediction", todo="objective: learn.objectives.mixture_of_denoisers")
        encoder_decoders.note(module, prefix=False, modes=encoder_decoders.modes(module))
        way_of(module)

    def loss(self, module: torch.nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, int]:
        """Rows with several windows are passed so that the module attends within each window only."""
        from paredown.engines.packing import model_inputs, way_of

        inputs, targets = model_inputs(way_of(module) if "positions" in batch else "", batch)
        predicted = batch["predicted"] if "predicted" in batch else int((targets != -100).sum())
        return next_token_loss(module(**inputs).logits, targets, predicted), predicted
