"""Healing after pruning that trains a few weights in a hundred and loses no zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from paredown.core.strategy import Count, Positive
from paredown.engines.parts import Hook

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from paredown.engines.adapters import Form
    from paredown.engines.training import State

FORMS: dict[str, Form] = {"lora": "add", "lora_prune": "add", "scale_lora": "scale", "mask_lora": "mask"}


def alive(module: nn.Module, layers: list[str]) -> dict[str, Tensor]:
    """True where a weight of these layers is not zero, (out, in) or as the layer stores it; only for layers with a zero."""
    from paredown.engines.sparse_training import zero_masks

    zeros = zero_masks(module)
    return {name: ~zeros[f"{name}.weight"] for name in layers if f"{name}.weight" in zeros}


class Perp(Hook):
    """Train only biases, norms, the output head or adapters of a pruned model, and merge the adapters so that zeros stay zeros.

    Variants, with W the pruned weight, M where it is not zero (noted before training) and B A of rank r: `mask_lora` trains and merges
    W + s M (B A), exactly; `scale_lora` W (B A), exactly; `lora_prune` trains W + s B A and merges W + s M (B A), another function;
    `lora` trains and merges W + s B A, which fills the zeros, so its adapters are also written beside the model, in `adapters`, and open
    in peft on top of the pruned one. The head gets a plain adapter, as it is not pruned; embeddings that share its weight share it.

    Source: Zimmer et al. 2023, arXiv 2312.15230, section 3; scale_lora starts with one pair of ones where the authors' code starts all pairs
        alike, which then stay alike: a product of rank one.
    Costs: no gradient or state of the optimizer for frozen weights; mask_lora and scale_lora make each adapted weight twice a step
        (2 r FLOPs a weight each time) and its gradient once; a byte a weight for the mask.
    Control: learn.hooks.keep_zeros (all weights that are left).
    Not for: letting pruned weights grow back; train without hooks.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-weights", "what-deltas", "speedup-none", "needs-data", "needs-gradients")
    systems: ClassVar[tuple[int, ...]] = (32,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    biases: bool = True  # train all biases, those of norms too
    norms: bool = True  # train the weights and biases of norms
    head: bool = False  # train the output head, through an adapter
    variant: Literal["none", "lora", "lora_prune", "scale_lora", "mask_lora"] = "mask_lora"  # adapters of the blocks' linear layers
    rank: Count = 16  # r of every adapter
    alpha: Positive = 32.0  # s is alpha / rank
    layers: tuple[str, ...] = ()  # how the names of adapted layers end (q_proj, mlp.fc1); not given: every linear layer of the blocks

    @model_validator(mode="after")
    def _something(self) -> Perp:
        if not (self.biases or self.norms or self.head or self.variant != "none"):
            raise ValueError("nothing would train: set one of biases, norms, head and variant")
        return self

    def prepare(self, module: nn.Module) -> None:
        """Freeze, and put adapters in; what trains is counted under `trained` in the step's facts.

        Raises:
            UserError: the model has none of the groups, no such layers, or no output head.
        """
        from paredown.core.context import context
        from paredown.core.errors import UserError
        from paredown.engines import adapters, weight_groups

        groups = {"biases": weight_groups.biases(module) if self.biases else {}, "norms": weight_groups.norms(module) if self.norms else {}}
        weight_groups.train_only(module, (groups["biases"] | groups["norms"]).values())
        if self.variant != "none":
            names = adapters.block_layers(module, self.layers)
            masks = {} if self.variant == "lora" else alive(module, names)
            adapters.attach(module, dict.fromkeys(names, self.rank), self.alpha, FORMS[self.variant], masks)
        if self.head:
            head = weight_groups.head_of(module)
            if head is None:
                raise UserError(f"{type(module).__name__} has no output head that can be found", where="head", todo="set head: false")
            adapters.attach(module, {head.name: self.rank}, self.alpha)
        counts = {name: sum(weight.numel() for weight in group.values()) for name, group in groups.items()}
        context().facts["trained"] = {**counts, "adapters": adapters.count(module)}
        if not any(value.requires_grad for value in module.parameters()):
            raise UserError(
                f"{type(module).__name__} has no {' and no '.join(name for name in groups if getattr(self, name))}, so nothing would train",
                todo="take a variant with adapters",
            )

    def start(self, state: State) -> None:
        from paredown.engines.sparse_training import count_zeros

        state.active -= count_zeros(state.module)

    def beside(self, module: nn.Module, folder: Path) -> None:
        from paredown.engines import adapters

        if self.variant == "lora":
            adapters.save(module, folder / "adapters")

    def merge(self, module: nn.Module) -> None:
        from paredown.engines import adapters

        adapters.merge(module)
