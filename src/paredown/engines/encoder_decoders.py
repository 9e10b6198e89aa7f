"""Encoder-decoders beside decoders: which of them a module is, how their inputs are passed, and decoders that read a prompt both ways.

A decoder that was trained with attention both ways over its input says so in its configuration (`prefix_lm`), and which token names
which kind of denoising (`modes`), so that what generates or measures later asks the model as it was trained.

Rows of an encoder-decoder may hold several examples; `segments` numbers them from 1 in the encoder's ids and in the decoder's, 0 is
padding. Each example then sees itself only. The models of transformers take one mask for the encoder and for what the decoder
reads of it, of different shapes here; the encoder's own is put in by a hook that is registered once.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from paredown.core.errors import UserError
from paredown.engines.batches import IGNORED

if TYPE_CHECKING:
    from collections.abc import Mapping

_own_masks: weakref.WeakKeyDictionary[nn.Module, dict[str, Tensor]] = weakref.WeakKeyDictionary()  # encoder -> {"mask": of this call}


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside wrappers for compiling and for several processes."""
    while isinstance(wrapped := getattr(module, "_orig_mod", None) or getattr(module, "module", None), nn.Module):
        module = wrapped
    return module


def is_encoder_decoder(module: nn.Module) -> bool:
    return bool(getattr(getattr(unwrapped(module), "config", None), "is_encoder_decoder", False))


def refuse(module: nn.Module, what: str, todo: str = "") -> None:
    """
    Raises:
        UserError: the module is an encoder-decoder, for which there is no `what`.
    """
    if is_encoder_decoder(module):
        raise UserError(f"{what} needs a decoder, but {type(unwrapped(module)).__name__} is an encoder-decoder", todo=todo)


def reads_both_ways(module: nn.Module) -> bool:
    """Whether a decoder was trained with attention both ways over its prompt."""
    return bool(getattr(getattr(unwrapped(module), "config", None), "prefix_lm", False))


def modes(module: nn.Module) -> dict[str, str]:
    """The token that names each kind of denoising (R, S, X) that the module was trained on; empty where it was trained without."""
    found = getattr(getattr(unwrapped(module), "config", None), "modes", None)
    return dict(found) if isinstance(found, dict) else {}


def note(module: nn.Module, *, prefix: bool, modes: Mapping[str, str]) -> None:
    """Write into a module's configuration what `reads_both_ways` and `modes` read; nothing is written where there is nothing to say."""
    config: Any = getattr(unwrapped(module), "config", None)
    for name, value in (("prefix_lm", prefix), ("modes", dict(modes))):
        if config is not None and (value or getattr(config, name, None)):
            setattr(config, name, value)


def blocked(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to be added to scores, (B, 1, Q, K), from booleans (B, Q, K): 0 where a position may look, the lowest number elsewhere."""
    lowest = torch.finfo(dtype).min
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, lowest)[:, None]


def prefix_mask(prefix: Tensor, length: int, dtype: torch.dtype, present: Tensor | None = None) -> Tensor:
    """(B, 1, L, L): the first `prefix` (B,) positions of a row see one another, the others what is before them.

    `present` (B, L) is false at padding, which nothing sees but itself; a prefix is counted from the row's start, padding included.
    """
    place = torch.arange(length, device=prefix.device)
    allowed = (place[None, :] <= place[:, None])[None] | (place[None, None, :] < prefix[:, None, None])
    if present is not None:
        allowed = (allowed & present[:, None, :]) | torch.eye(length, dtype=torch.bool, device=prefix.device)
    return blocked(allowed, dtype)


def prompt_mask(module: nn.Module, present: Tensor) -> Tensor | None:
    """The mask with which a decoder reads prompts padded on the left; `present` (B, L) is 1 at their tokens. None where it needs none."""
    if reads_both_ways(module):
        length = present.shape[1]
        prefix = torch.full((len(present),), length, device=present.device)
        return prefix_mask(prefix, length, next(module.parameters()).dtype, present.bool())
    return None if bool(present.all()) else present


def decoder_logits(module: nn.Module, ids: Tensor, prefix: Tensor | None) -> Tensor:
    """Logits (B, L, V) of a decoder; with `prefix` (B,) the first positions of each row are read both ways."""
    more: dict[str, Any] = {}
    if prefix is not None:
        more["attention_mask"] = prefix_mask(prefix, ids.shape[1], _dtype(module))
    found: Tensor = module(input_ids=ids, use_cache=False, **more).logits
    return found


def encoder_decoder_logits(module: nn.Module, ids: Tensor, segments: Tensor, answers: Tensor, answer_segments: Tensor) -> Tensor:
    """Logits (B, D, V) after each of the decoder's `answers` (B, D), each example reading its own part of `ids` (B, E) only.

    `pack_examples` has been called for the module.
    """
    dtype = _dtype(module)
    same = (answer_segments[:, :, None] == answer_segments[:, None, :]) & torch.ones(
        answers.shape[1], answers.shape[1], dtype=torch.bool, device=ids.device
    ).tril()
    # Padding is an example of its own, number 0, so that no row of a mask is empty.
    across = (answer_segments[:, :, None] == segments[:, None, :]) | (answer_segments == 0)[:, :, None]
    holder = _own_masks[_encoder(module)]
    holder["mask"] = blocked(segments[:, :, None] == segments[:, None, :], dtype)
    try:
        found: Tensor = module(
            input_ids=ids,
            attention_mask=blocked(across, dtype),
            decoder_input_ids=answers,
            decoder_attention_mask=blocked(same, dtype),
            use_cache=False,
        ).logits
    finally:
        holder.clear()
    return found


def pack_examples(module: nn.Module) -> None:
    """Let an encoder-decoder read rows of several examples; found out by trying two examples in one row against the second alone.

    Raises:
        UserError: the module counts positions from the start of a row, or takes no masks, so that it must read one example a row.
    """
    encoder = _encoder(module)
    if encoder in _own_masks:
        return
    holder: dict[str, Tensor] = {}

    def own_mask(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        return (args, {**kwargs, "attention_mask": holder["mask"]}) if holder else None

    handle = encoder.register_forward_pre_hook(own_mask, with_kwargs=True)
    _own_masks[encoder] = holder
    if not _sees_itself_only(unwrapped(module)):
        handle.remove()
        del _own_masks[encoder]
        raise UserError(
            f"{type(unwrapped(module)).__name__} does not read several examples in one row: its positions are counted from the row's start",
            todo="take a model with relative positions, such as learn.models.t5",
        )


@torch.no_grad()
def _sees_itself_only(module: Any) -> bool:
    device = next(module.parameters()).device
    rows = int(module.get_input_embeddings().weight.shape[0])
    ids = torch.tensor([[1, 2, 3, 4, 5, 6, 7]], device=device) % rows
    parts, answers = torch.tensor([[1, 1, 1, 2, 2, 2, 2]], device=device), ids[:, :5]
    answer_parts = torch.tensor([[1, 1, 2, 2, 2]], device=device)
    training = module.training
    module.eval()
    try:
        together = encoder_decoder_logits(module, ids, parts, answers, answer_parts)[:, 2:].float()
        alone = module(input_ids=ids[:, 3:], decoder_input_ids=answers[:, 2:], use_cache=False).logits.float()
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False
    finally:
        module.train(training)
    return float((together - alone).abs().max()) <= 1e-4 * float(alone.abs().max())


def check_prefix(module: nn.Module) -> None:
    """
    Raises:
        UserError: what a prefix mask allows does not reach the module: a later token of the input changes nothing before it.
    """
    inner: Any = unwrapped(module)
    device = next(inner.parameters()).device
    rows = int(inner.get_input_embeddings().weight.shape[0])
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 5, 4]], device=device) % rows
    training = inner.training
    inner.eval()
    try:
        with torch.no_grad():
            found = decoder_logits(inner, ids, torch.tensor([3, 3], device=device))
        reached = not torch.equal(found[0, 0], found[1, 0])
    except (TypeError, ValueError, RuntimeError, IndexError):
        reached = False
    finally:
        inner.train(training)
    if not reached:
        raise UserError(f"{type(inner).__name__} takes no mask of its own, so it cannot read its input both ways", todo="attention: causal")


def _encoder(module: nn.Module) -> nn.Module:
    inner: Any = unwrapped(module)
    found: nn.Module = inner.get_encoder()
    return found


def _dtype(module: nn.Module) -> torch.dtype:
    """The number format that masks are added in."""
    return next(module.parameters()).dtype


def denoising_logits(module: nn.Module, batch: dict[str, Any], *, prefix: bool) -> Tensor:
    """Logits (R, D, V) for the targets of a batch of `engines/denoising.py`, laid out for a decoder or for an encoder-decoder."""
    if "answers" in batch:
        return encoder_decoder_logits(module, batch["ids"], batch["segments"], batch["answers"], batch["answer_segments"])
    return decoder_logits(module, batch["ids"], batch["prefix"] if prefix else None)


def token_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each target in nats, in the shape of `targets`; zero where nothing is predicted."""
    return nn.functional.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORED, reduction="none").view_as(
        targets
    )


def means_by_group(nats: Tensor, targets: Tensor, group: Tensor, groups: int) -> list[tuple[Tensor, int]]:
    """(mean, number) of the predicted targets of each group; the device is asked once for all numbers."""
    masks = [(group == number) & (targets != IGNORED) for number in range(groups)]
    counts: list[int] = torch.stack([mask.sum() for mask in masks]).tolist()
    return [((nats * mask).sum() / max(1, count), count) for mask, count in zip(masks, counts, strict=True)]
