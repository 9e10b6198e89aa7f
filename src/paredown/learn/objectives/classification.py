"""Classification of labelled examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from paredown.artifacts.examples import Examples
from paredown.core.errors import UserError
from paredown.engines.parts import Objective, Rows

if TYPE_CHECKING:
    import torch

    from paredown.artifacts.tokens import Tokens


class Classification(Objective):
    """Predict the label of each example by cross-entropy.

    Source: none (the standard objective of classifiers); label smoothing as in Szegedy et al. 2015, arXiv 1512.00567, section 7.
    Costs: nothing beside the forward and backward pass.
    Control: none (it is the standard objective).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-weights", "speedup-none", "needs-gradients")
    extras: ClassVar[tuple[str, ...]] = ("train",)

    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the target that is spread evenly over all labels

    def rows(self, data: Tokens | Examples, length: int) -> Rows:
        from paredown.engines.classifiers import LabelledRows

        if not isinstance(data, Examples):
            raise UserError("classification learns from examples, not from tokens", where="objective", todo="give the input examples")
        return LabelledRows(data)

    def loss(self, module: torch.nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, int, dict[str, tuple[torch.Tensor, int]]]:
        """Mean cross-entropy in nats over the rows, and the accuracy on them.

        Raises:
            UserError: the model does not take such rows, or has no score for a label.
        """
        from torch.nn import functional

        from paredown.engines.classifiers import logits

        found = logits(module, batch).float()
        label = batch["label"].long()
        right = (found.detach().argmax(dim=-1) == label).float().mean()
        return functional.cross_entropy(found, label, label_smoothing=self.smoothing), len(found), {"accuracy": (right, len(found))}
