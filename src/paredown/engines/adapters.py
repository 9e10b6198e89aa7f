"""Low-rank adapters beside the weights of linear layers: trained in their place, then merged into them.

Legend: W = weight (out, in), A (r, in), B (out, r), M = mask (out, in), True where a weight lives, s = alpha / r.

    form     the layer computes with            starts at         merged
    add      W + s B A                          B = 0             W + s B A, under M where there is one (then the function changes)
    mask     W + s M * (B A)                    B = 0             the same: exact
    scale    W * (B A)                          B A = 1           the same: exact

A and B are fp32 whatever W is. `add` never makes a matrix of the size of W. The other two make one for the product with the inputs and throw
it away; the backward pass makes it again, so between the passes an adapter holds nothing of that size but its mask, a byte a weight.
A layer keeps its names and its weight: only its class changes, and a module `adapter` stands in it until the merge.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from paredown.core.errors import UserError
from paredown.engines.blocks import find_blocks, linear_layers
from paredown.engines.weight_groups import biases, head_of, norms

Form = Literal["add", "mask", "scale"]


def combined(weight: Tensor, a: Tensor, b: Tensor, scale: float, form: Form, mask: Tensor | None) -> Tensor:
    """The weight that a layer with an adapter computes with, a new tensor in fp32; no gradient goes through it."""
    with torch.no_grad():
        product = b.float() @ a.float()
        if form == "scale":
            return product.mul_(weight)
        return (product if mask is None else product.mul_(mask)).mul_(scale).add_(weight)


class _Product(torch.autograd.Function):
    """x W'^T + bias for the W' of `combined`, which the backward pass makes again instead of keeping it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, mask: Tensor | None, scale: float, form: Form
    ) -> Tensor:
        ctx.save_for_backward(x, weight, a, b, mask)
        ctx.scale, ctx.form = scale, form
        with torch.autocast(x.device.type, enabled=False):
            made = combined(weight, a, b, scale, form, mask).to(x.dtype)
            return functional.linear(x, made, bias if bias is None else bias.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b, mask = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):
            to_x = None
            if ctx.needs_input_grad[0]:
                to_x = grad @ combined(weight, a, b, ctx.scale, ctx.form, mask).to(grad.dtype)
            rows = grad.reshape(-1, grad.shape[-1])
            to_product = (rows.T @ x.reshape(-1, x.shape[-1])).float()
            if ctx.form == "scale":
                to_product.mul_(weight)
            else:
                (to_product if mask is None else to_product.mul_(mask)).mul_(ctx.scale)
            to_bias = rows.float().sum(dim=0) if ctx.needs_input_grad[2] else None
            return to_x, None, to_bias, b.T @ to_product, to_product @ a.T, None, None, None


class Adapter(nn.Module):
    """A and B of one weight, and the mask of what lives in it."""

    mask: Tensor | None

    def __init__(self, weight: Tensor, rank: int, alpha: float, form: Form, mask: Tensor | None = None) -> None:
        """`weight` and `mask` are (out, in). Random numbers come from torch's current generator."""
        super().__init__()
        outputs, inputs = weight.shape
        self.form: Form = "add" if form == "mask" and mask is None else form
        self.rank, self.alpha, self.scale = rank, alpha, alpha / rank
        self.a = nn.Parameter(torch.empty(rank, inputs, dtype=torch.float32, device=weight.device))
        self.b = nn.Parameter(torch.zeros(outputs, rank, dtype=torch.float32, device=weight.device))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))  # as peft does
        if form == "scale":  # pairs that start alike would stay alike, so only the first is ones: B A is one all the same, and exactly
            with torch.no_grad():
                self.a[0], self.b[:, 0] = 1.0, 1.0
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """What the layer gives for inputs (..., in), (..., out)."""
        if self.form == "add":
            added = functional.linear(functional.linear(x.to(self.a.dtype), self.a), self.b)
            given = functional.linear(x, weight, bias)
            return given + (added * self.scale).to(given.dtype)
        device = x.device.type
        x = x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x
        made: Tensor = _Product.apply(x, weight, bias, self.a, self.b, self.mask, self.scale, self.form)  # type: ignore[no-untyped-call]
        return made

    def merged(self, weight: Tensor) -> Tensor:
        """What is to stand in the weight's place once the adapter is gone, (out, in), fp32."""
        return combined(weight, self.a, self.b, self.scale, self.form, self.mask)


class _AdaptedLinear(nn.Linear):
    adapter: Adapter

    def forward(self, input: Tensor) -> Tensor:
        return self.adapter(input, self.weight, self.bias)  # type: ignore[no-any-return]


class _AdaptedConv1D(Conv1D):
    adapter: Adapter

    def forward(self, x: Tensor) -> Tensor:
        return self.adapter(x, self.weight.T, self.bias)  # type: ignore[no-any-return]


class _AdaptedEmbedding(nn.Embedding):
    """The other end of an output head that shares its weight, (tokens, width), and so shares its adapter."""

    adapter: Adapter

    def forward(self, input: Tensor) -> Tensor:
        found = super().forward(input)
        return found + (functional.embedding(input, self.adapter.b) @ self.adapter.a * self.adapter.scale).to(found.dtype)


ADAPTED: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: _AdaptedLinear, Conv1D: _AdaptedConv1D, nn.Embedding: _AdaptedEmbedding}
PLAIN = {adapted: plain for plain, adapted in ADAPTED.items()}


def block_layers(module: nn.Module, ends: Iterable[str] = ()) -> list[str]:
    """Names of the linear layers inside a module's blocks; with `ends`, only of those whose names end so (`q_proj`, `mlp.fc1`).

    Raises:
        UserError: there are none, or none with one of the endings.
    """
    blocks = find_blocks(module)
    names = [f"{name}.{parameter}" for name, block in blocks.items() for _, parameter, _ in linear_layers(block)]
    return chosen(type(module).__name__, [name.removesuffix(".weight") for name in dict.fromkeys(names)], ends)


def chosen(where: str, names: list[str], ends: Iterable[str]) -> list[str]:
    """Those of the names that end with one of `ends`, in whole parts; all where there are no endings.

    Raises:
        UserError: there are no names, or none with one of the endings.
    """
    if not names:
        raise UserError(f"{where} has no blocks with linear layers in them, so there is nothing to adapt")
    wanted = list(ends)
    for end in wanted:
        if not any(_ends(name, end) for name in names):
            last = ", ".join(sorted({name.rpartition(".")[2] for name in names}))
            raise UserError(f"{where} has no linear layer {end} in its blocks", where="layers", todo=f"its layers are {last}")
    return [name for name in names if not wanted or any(_ends(name, end) for end in wanted)]


def _ends(name: str, end: str) -> bool:
    return f".{name}".endswith(f".{end}")


def attach(
    module: nn.Module,
    ranks: Mapping[str, int],
    alpha: float,
    form: Form = "add",
    masks: Mapping[str, Tensor] | None = None,
) -> None:
    """Put an adapter into each named layer, of the rank that it is given; s is `alpha` over that rank, as in peft.

    `masks` has, by the name of a layer, True where its weight lives, in the shape of the weight. An output head that shares the weight
    of the input embeddings shares its adapter with them. Weights are not frozen here; see `weight_groups.train_only`. A comes from torch's
    current generator, layer by layer.

    Raises:
        UserError: a layer is of a class whose product cannot be changed, or has an adapter already.
    """
    head = head_of(module)
    for name, rank in ranks.items():
        child = _layer(module, name)
        transposed = isinstance(child, Conv1D)
        weight, mask = child.weight, (masks or {}).get(name)
        adapter = Adapter(weight.T if transposed else weight, rank, alpha, form, mask.T if transposed and mask is not None else mask)
        ends = [child, head.tied] if head is not None and head.layer is child and head.tied is not None else [child]
        for end in ends:
            if type(end) not in ADAPTED:
                raise UserError(f"{name}: an adapter does not fit a {type(end).__name__}", where=name)
        for end in ends:
            end.__class__ = ADAPTED[type(end)]
            end.adapter = adapter


def _layer(module: nn.Module, name: str) -> Any:
    try:
        child = module.get_submodule(name)
    except AttributeError:
        raise UserError(
            f"{name} is no layer of its own (experts that are stacked have none), so it takes no adapter",
            todo="name the layers that shall have one",
        ) from None
    if type(child) in PLAIN:
        raise UserError(f"{name} has an adapter already", todo="let one hook only put adapters into it")
    if type(child) not in ADAPTED or isinstance(child, nn.Embedding):
        raise UserError(
            f"{name} is a {type(child).__name__}, not a plain linear layer: it takes no adapter",
            where=name,
            todo="name the layers that shall have one",
        )
    return child


def adapted(module: nn.Module) -> Iterator[tuple[str, nn.Module, Adapter]]:
    """(name, layer, adapter) of every layer that has one; a shared adapter comes with each of its layers."""
    for name, child in module.named_modules():
        if type(child) in PLAIN:
            yield name, child, child.adapter


def count(module: nn.Module) -> int:
    """Weights of all adapters: r (in + out) each, a shared one once."""
    return sum(value.numel() for child in {id(a): a for _, _, a in adapted(module)}.values() for value in child.parameters())


@torch.no_grad()
def merge(module: nn.Module) -> None:
    """Put into each adapted layer's weight, in place, what it is merged to, and take the adapters away."""
    done: set[int] = set()
    for _, child, adapter in list(adapted(module)):
        weight: Any = child.weight
        if id(adapter) not in done:
            done.add(id(adapter))
            if isinstance(child, Conv1D):
                weight.copy_(adapter.merged(weight.T).T)
            else:
                weight.copy_(adapter.merged(weight))
    drop(module)


def drop(module: nn.Module) -> None:
    """Take the adapters away; weights are as before."""
    for _, child, _ in list(adapted(module)):
        del child.adapter
        child.__class__ = PLAIN[type(child)]


def save(module: nn.Module, folder: Path) -> None:
    """Write adapters that add, and what else of the module trains, as a folder that opens in peft on top of the model as it was.

    Biases and whole modules (norms) that train beside the adapters are among it.

    Raises:
        UserError: an adapter is of another form, or something else than biases and norms trains beside.
    """
    from peft import LoraConfig

    found = list(adapted(module))
    if not found or any(adapter.form != "add" for _, _, adapter in found):
        raise UserError("only adapters that add to a weight have a form in peft", todo="use the merged model")
    tensors: dict[str, Tensor] = {}
    for name, child, adapter in found:
        embeds = isinstance(child, nn.Embedding)
        names = ("lora_embedding_A", "lora_embedding_B") if embeds else ("lora_A.weight", "lora_B.weight")
        first, second = (adapter.b.T, adapter.a.T) if embeds else (adapter.a, adapter.b)
        tensors |= {f"base_model.model.{name}.{names[0]}": first, f"base_model.model.{name}.{names[1]}": second}
    mine = {id(value) for _, _, adapter in found for value in adapter.parameters()}
    beside = {name: value for name, value in module.named_parameters() if value.requires_grad and id(value) not in mine}
    for name in beside.keys() - (biases(module) | norms(module)).keys():
        raise UserError(f"{name} trains beside the adapters; of other weights only biases and norms are saved with them", where=name)
    whole = sorted({name.rpartition(".")[0] for name in beside if not name.endswith("bias")})
    for name in whole:
        beside |= {f"{name}.{short}": value for short, value in module.get_submodule(name).named_parameters()}
    inside = {f"{name}.bias": f"{name}.base_layer.bias" for name, _, _ in found}  # where peft puts a layer that it wraps
    tensors |= {f"base_model.model.{inside.get(name, name)}": value for name, value in beside.items()}
    rank, alpha = found[0][2].rank, found[0][2].alpha
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        target_modules=[name for name, _, _ in found],
        rank_pattern={name: adapter.rank for name, _, adapter in found if adapter.rank != rank},
        alpha_pattern={name: adapter.alpha for name, _, adapter in found if adapter.alpha != alpha},
        bias="all" if any(name.endswith("bias") for name in beside) else "none",
        modules_to_save=whole or None,
        fan_in_fan_out=any(isinstance(child, Conv1D) for _, child, _ in found),
        inference_mode=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    asked = config.to_dict()  # type: ignore[no-untyped-call]
    said = {key: sorted(value) if isinstance(value, set) else value for key, value in asked.items()}
    (folder / "adapter_config.json").write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")
    stored = {name: value.detach().to("cpu").contiguous().clone() for name, value in sorted(tensors.items())}
    save_file(stored, folder / "adapter_model.safetensors", metadata={"format": "pt"})
