"""Adapters of a pruned model whose ranks follow the importance of the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from paredown.artifacts.model import Model
from paredown.core.strategy import Count, Positive
from paredown.engines.parts import Hook

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


def block_ranks(shares: Sequence[float], sizes: Sequence[int], rank: int) -> list[int]:
    """The rank of each block's adapters, in proportion to its share, one at least (arXiv 2409.13199, section 3.4).

    `sizes` are the weights of a block's adapters for each rank. Together they have as many weights as adapters of the same `rank`
    everywhere, as near as whole ranks come to it: ranks are rounded down, and those with the largest remainders rounded up.
    """
    budget = rank * sum(sizes)
    scale = budget / sum(share * size for share, size in zip(shares, sizes, strict=True))
    exact = [max(1.0, share * scale) for share in shares]
    found = [int(value + 1e-9) for value in exact]
    for number in sorted(range(len(found)), key=lambda n: (found[n] - exact[n], n)):
        missing = budget - sum(count * size for count, size in zip(found, sizes, strict=True))
        found[number] += 1 if missing > sizes[number] / 2 else 0
    return found


class IgLora(Hook):
    """Train low-rank adapters of the blocks' linear layers, of higher rank where prune.cfsp found a block more important.

    Everything else is frozen. The trained adapters are merged, and also written beside the model, in `adapters`, for peft.

    Source: Wang et al. 2024, arXiv 2409.13199, section 3.4; how ranks are rounded is ours.
    Costs: no gradient or state of the optimizer for frozen weights; 2 r (in + out) FLOPs a token and layer forward.
    Control: tune.perp with variant lora (one rank everywhere, as many weights).
    Not for: models with zeros to keep; use tune.perp there.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-deltas", "speedup-none", "needs-data", "needs-gradients")
    systems: ClassVar[tuple[int, ...]] = (80,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    pruned: Model  # the model that prune.cfsp made, which says what each block is worth
    rank: Count = 8  # rank that adapters of as many weights would have everywhere
    alpha: Positive = 16.0  # adapters are added times alpha / their rank
    layers: tuple[str, ...] = ()  # how the names of adapted layers end (q_proj, mlp.fc1); not given: every linear layer of the blocks

    def prepare(self, module: nn.Module) -> None:
        """Freeze, and put adapters in.

        Raises:
            DataError: the pruned model does not say what its blocks are worth, or has other blocks.
            UserError: the model has no such layers.
        """
        from paredown.core.context import context
        from paredown.core.errors import DataError
        from paredown.engines import adapters, removal, weight_groups
        from paredown.engines.blocks import find_blocks

        names = adapters.block_layers(module, self.layers)
        blocks = [[name for name in names if name.startswith(f"{block}.")] for block in find_blocks(module)]
        shares = removal.shares(self.pruned)
        if len(shares) != len(blocks):
            raise DataError(f"pruning.json tells of {len(shares)} blocks, but the model has {len(blocks)}", where=str(self.pruned.path))
        weights: dict[str, nn.Parameter] = dict(module.named_parameters())
        sizes = [sum(sum(weights[f"{name}.weight"].shape) for name in inside) for inside in blocks]
        chosen = block_ranks(shares, sizes, self.rank)
        weight_groups.train_only(module, ())
        ranks = {name: rank for inside, rank in zip(blocks, chosen, strict=True) for name in inside}
        adapters.attach(module, ranks, self.alpha)
        context().facts["trained"] = {"adapters": adapters.count(module), "ranks": chosen}

    def beside(self, module: nn.Module, folder: Path) -> None:
        from paredown.engines import adapters

        adapters.save(module, folder / "adapters")

    def merge(self, module: nn.Module) -> None:
        from paredown.engines import adapters

        adapters.merge(module)
