"""Passing packed rows to a language model so that no window sees another: the way is found by trying, once per module.

Most models of transformers make the mask themselves from positions that restart; some (OPT, BART and others) ignore them
and would let every window read the ones before it, silently. Ways, best first: `positions` alone; positions with a 4-D
mask; one row a window, padded.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from paredown.engines.batches import IGNORED
from paredown.engines.encoder_decoders import unwrapped

WAYS = ("positions", "mask", "unpacked")
_found: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


def model_inputs(way: str, batch: dict[str, Any], dtype: torch.dtype = torch.float32) -> tuple[dict[str, Any], Tensor]:
    """(arguments of the model, targets in the shape of its output) of a batch with `ids`, `targets` and perhaps `positions`."""
    ids, targets, positions = batch["ids"], batch["targets"], batch.get("positions")
    if positions is None:  # one window a row: causal attention needs no mask
        return {"input_ids": ids, "use_cache": False}, targets
    if way == "unpacked":
        ids, targets = unpacked(ids, targets, positions)
        return {"input_ids": ids, "use_cache": False}, targets
    inputs = {"input_ids": ids, "position_ids": positions, "use_cache": False}
    if way == "mask":
        inputs["attention_mask"] = window_mask(positions, dtype)
    return inputs, targets


def window_mask(positions: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, 1, L, L): 0 where a position may look (at itself and before, in its own window), the lowest number elsewhere."""
    window = (positions == 0).cumsum(-1)
    length = positions.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=positions.device).tril()
    seen = (window[:, None, :, None] == window[:, None, None, :]) & causal
    return torch.zeros(seen.shape, dtype=dtype, device=positions.device).masked_fill(~seen, torch.finfo(dtype).min)


def unpacked(ids: Tensor, targets: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Every window that has targets as a row of its own, padded on the right."""
    rows, starts = torch.nonzero(positions == 0, as_tuple=True)
    flat = rows * positions.shape[1] + starts
    ends = torch.cat([flat[1:], flat.new_tensor([positions.numel()])])
    sizes = ends - flat
    place = torch.arange(int(sizes.max()), device=ids.device)
    inside = place[None, :] < sizes[:, None]
    index = (flat[:, None] + place[None, :]).clamp(max=positions.numel() - 1)
    new_targets = torch.where(inside, targets.reshape(-1)[index], IGNORED)
    kept = (new_targets != IGNORED).any(dim=1)
    return torch.where(inside, ids.reshape(-1)[index], 0)[kept], new_targets[kept]


def way_of(module: nn.Module) -> str:
    """The best way that this module takes correctly; tried with one row of two windows against the second window alone."""
    inner = unwrapped(module)
    if inner not in _found:
        _found[inner] = _try_ways(inner)
    return _found[inner]


@torch.no_grad()
def _try_ways(module: nn.Module) -> str:
    device = next(module.parameters()).device
    ids = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 1, 2, 3]], device=device) % _vocabulary(module)
    positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4]], device=device)
    batch = {"ids": ids, "targets": ids, "positions": positions}
    with revealing(module):
        alone = module(input_ids=ids[:, 5:], use_cache=False).logits[0].float()
        for way in WAYS[:-1]:
            try:
                inputs, _ = model_inputs(way, batch)
                together = module(**inputs).logits[0, 5:].float()
            except (TypeError, ValueError, RuntimeError):  # takes no positions, or no mask of that shape
                continue
            if float((together - alone).abs().max()) <= 1e-4 * float(alone.abs().max()):
                return way
    return WAYS[-1]


def _vocabulary(module: nn.Module) -> int:
    embedding = getattr(module, "get_input_embeddings", lambda: None)()
    return int(getattr(embedding, "num_embeddings", 8))


@contextlib.contextmanager
def revealing(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, with layers that start at zero filled for the moment: through them nothing would be seen to leak."""
    training = module.training
    blank = [m.weight for m in module.modules() if isinstance(m, nn.Linear) and not bool(m.weight.any())]
    pattern = [torch.linspace(-0.5, 0.5, weight.numel(), device=weight.device).reshape(weight.shape).sin() for weight in blank]
    for weight, values in zip(blank, pattern, strict=True):
        weight.copy_(values)
    module.eval()
    try:
        yield
    finally:
        module.train(training)
        for weight in blank:
            weight.zero_()
