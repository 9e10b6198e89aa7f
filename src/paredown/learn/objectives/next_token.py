"""Next-token prediction on packed rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from paredown.engines.parts import Objective

if TYPE_CHECKING:
    import torch


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

    tags: ClassVar[tuple[str, ...]] = ("when-during", "speedup-none", "needs-gradients")
    extras: ClassVar[tuple[str, ...]] = ("train",)

    def loss(self, module: torch.nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, int]:
        """Where rows hold several windows, their restarted positions make the module attend within each window only.

        Rows with one window are passed without positions: plain causal attention needs no mask, which is the fast path.
        """
        inputs = {"input_ids": batch["ids"], "use_cache": False}
        if "positions" in batch:
            inputs["position_ids"] = batch["positions"]
        predicted = batch["predicted"] if "predicted" in batch else int((batch["targets"] != -100).sum())
        return next_token_loss(module(**inputs).logits, batch["targets"], predicted), predicted
