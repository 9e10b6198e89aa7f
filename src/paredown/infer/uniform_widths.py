"""The same width for every block, for programs that know no other."""

from __future__ import annotations

from typing import ClassVar

from paredown.artifacts.block_shapes import SHAPES
from paredown.artifacts.model import OWN, Model
from paredown.core.errors import UserError
from paredown.core.strategy import Strategy

HEADS = ("num_attention_heads", "num_key_value_heads")


class UniformWidths(Strategy):
    """Fill blocks that were pruned to different widths up to the widest with zeros, so that stock transformers loads the same function.

    Feed-forward channels and heads that are missing become channels and heads of zeros, and biases that `block_shapes` names become those of
    the class's own option. What has no place there, different numbers of experts or a bias without an option, is refused.

    Source: none (ours).
    Costs: one pass over the weights; the zeros are stored and computed like weights. Memory holds one tensor.
    Control: none (the model as it was computes the same)
    Not for: use inside paredown, which runs the narrow blocks as they are.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-channels", "what-heads", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (80,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    def __call__(self, model: Model) -> Model:
        """A model without `block_shapes`.

        Raises:
            DataError: a weight is NaN or infinite, or the checkpoint is a pickle.
            MissingExtra: blocks have different heads, and Torch-Pruning is not installed.
            UserError: no number describes all blocks in the model's class.
        """
        import torch

        from paredown.engines import removal, structure
        from paredown.engines.feed_forward import WIDTHS

        if OWN in model.config:
            raise UserError("stock transformers does not know networks of our own", where=str(model.path))
        uneven = {key for shapes in model.config.get(SHAPES, {}).values() for key in shapes.get("widths", {})}
        kinds = [structure.channels(model)] if uneven & set(WIDTHS) else []
        kinds += [structure.heads(model, whole=True)] if uneven & set(HEADS) else []
        rest = uneven - set(WIDTHS) - set(HEADS)
        if rest:
            raise UserError(
                f"blocks with different {min(rest)} cannot be filled up: an expert of zeros would still be chosen", where=str(model.path)
            )
        rows = [[torch.arange(group.units) for group in units.groups] for units in kinds]
        return removal.take(model, kinds, rows, uniform=True)
