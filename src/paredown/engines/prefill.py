"""Texts of different lengths through a language model, several in a row, each as if it were alone.

Legend: n = texts, W = wanted positions of a pass, V = vocabulary, H = heads, P = slots before a pass, T = slots of a row, D = width of a head.

`packed` is the mechanism of prepacking (Zhao et al. 2024, arXiv 2404.09529) and of sharing what texts begin with; `padded` is
what transformers does. Both give one `Reading` a forward pass, so that memory holds the logits and keys of one pass. `begin`
turns them into the state that decoding goes on from.

Three ways lead to a text that sees no other; which one a module takes correctly is found by trying, once per module:
`segments` (attention text by text, no mask), `mask` (the model's own attention, a 4-D mask), and `rows` (every text has a row of
its own, padded on the right, where a causal model does not look).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from paredown.core.errors import UserError
from paredown.engines import bins, segments
from paredown.engines.prefill_passes import (
    WAYS,
    Before,
    Passes,
    Plan,
    Reading,
    Text,
    Way,
    arguments,
    device_of,
    forward,
    keeps,
    takes,
    way_of,
)
from paredown.engines.prefixes import forest

if TYPE_CHECKING:
    from transformers.cache_utils import DynamicCache

__all__ = [
    "WAYS",
    "Begun",
    "Plan",
    "Reading",
    "Text",
    "begin",
    "keeps",
    "mask_of",
    "packed",
    "padded",
    "pass_tokens",
    "step",
    "takes",
    "way_of",
]
SHARE = 8  # tokens that texts begin with alike from which on it pays to read them once: they cost more than another segment
PASS_TOKENS = {"cpu": 1024, "cuda": 16384}  # tokens of a forward pass; on 2 cores 512 to 2048 are equally quick, 8192 a tenth slower


@dataclass
class Begun:
    """Prompts that are read: what decoding goes on from."""

    logits: Tensor  # (n, V) after each prompt
    cache: DynamicCache  # every prompt ends at the same slot
    lengths: list[int]


def packed(
    module: Any, texts: Sequence[Text], plan: Plan, *, share: int = 0, limit: int | None = None, way: Way | None = None, keep: bool = False
) -> Iterator[Reading]:
    """Read texts, several in a row as `plan` says of their lengths, each exactly as if it were alone but for rounding.

    share: tokens that texts must begin with alike for the beginning to be read once; 0 reads every text whole.
    limit: tokens of a forward pass; a tree of shared beginnings that is larger is read in several (default: by device).
    way: default the best one that the module takes.
    keep: give the keys and values too.

    Raises:
        UserError: the module does not take the `way` that is asked for.
    """
    way = way or way_of(module)
    if not takes(module, way):
        raise UserError(f"{type(module).__name__} does not take attention: {way} rightly", todo="leave attention at auto")
    trees = forest(
        [text.ids if isinstance(text.ids, list) else np.asarray(text.ids).tolist() for text in texts], share if way != "rows" else 0
    )
    with segments.attention(module) if way == "segments" else contextlib.nullcontext():
        passes = Passes(module, texts, plan if way != "rows" else _single(plan), limit or pass_tokens(module), way, keep)
        yield from passes.over(trees, Before())


def prepacked(
    module: Any, texts: Sequence[Text], *, tokens: int | None = None, capacity: int | None = None, method: bins.Method = "best_fit",
    gain: float = 1.1, spare: int = 0, share: int = SHARE, way: Way | None = None, keep: bool = False,
) -> Iterator[Reading]:  # fmt: skip
    """Read texts, packed as `bins.prepacked` says, in passes of at most `tokens` tokens (default: by device)."""
    most = tokens or pass_tokens(module)

    def plan(lengths: list[int]) -> list[bins.Pass]:
        return bins.prepacked(lengths, most, capacity=capacity, method=method, gain=gain, spare=spare)

    return packed(module, texts, plan, share=share, limit=most, way=way, keep=keep)


def _single(plan: Plan) -> Plan:
    """The same passes with every text in a row of its own."""
    return lambda lengths: [[[text] for row in each for text in row] for each in plan(lengths)]


def padded(module: Any, texts: Sequence[Text], passes: Iterable[bins.Pass], *, keep: bool = False) -> Iterator[Reading]:
    """Read texts one a row, padded on the left and masked, as transformers does; `passes` says which together."""
    where = next(module.parameters()).device
    for rows in passes:
        numbers = [number for row in rows for number in row]
        lengths = [len(texts[number].ids) for number in numbers]
        width = max(lengths)
        ids = np.zeros((len(numbers), width), dtype=np.int64)
        mask = np.zeros((len(numbers), width), dtype=np.int64)
        wanted = [np.zeros(0, dtype=np.int64)]
        for row, (number, length) in enumerate(zip(numbers, lengths, strict=True)):
            ids[row, width - length :] = texts[number].ids
            mask[row, width - length :] = 1
            wanted.append(row * width + width - length + np.asarray(texts[number].wanted, dtype=np.int64))
        inputs = {"input_ids": torch.from_numpy(ids).to(where)}
        if min(lengths) < width:
            inputs["attention_mask"] = torch.from_numpy(mask).to(where)
            inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
        logits, keys = forward(module, inputs, torch.from_numpy(np.concatenate(wanted)).to(where), keep)
        slots = [(row, ((width - length, width),)) for row, length in enumerate(lengths)]
        yield Reading(numbers, logits, keys, slots)


def begin(
    module: Any, prompts: Sequence[Sequence[int]], read: Callable[[list[Text]], Iterable[Reading]], more: int, *, drop_last: bool = False
) -> Begun:
    """Read prompts and cut the keys and values of every pass back to its prompts: one cache, in their order, with room for
    `more` new tokens.

    drop_last: as published, the last token of every prompt goes through in a step of decoding of its own.
    """
    from paredown.engines import caches

    ids = [list(prompt) for prompt in prompts]
    texts = [Text(each[:-1]) if drop_last else Text(each, [len(each) - 1]) for each in ids]
    lengths = [len(text.ids) for text in texts]
    slots = caches.Slots(len(texts), max(lengths), more + drop_last)
    logits: Tensor | None = None
    for reading in read(texts):
        if not drop_last:
            if logits is None:
                logits = reading.logits.new_empty(len(texts), reading.logits.shape[-1])
            logits[torch.tensor(reading.texts, device=logits.device)] = reading.logits
        slots.take(reading.texts, reading.keys, reading.slots)
    cache = slots.cache()
    if logits is None:
        last = torch.tensor([each[-1:] for each in ids], device=device_of(module))
        mask, positions = mask_of(lengths, 1), torch.tensor(lengths)[:, None]
        logits = step(module, last, cache, mask, positions)
        lengths = [length + 1 for length in lengths]
    return Begun(logits, cache, lengths)


def mask_of(lengths: Sequence[int], more: int) -> Tensor | None:
    """(n, longest + more): 1 from where each text begins, for texts that end at the same slot; None where there is no padding."""
    width = max(lengths)
    if min(lengths) == width:
        return None
    return (torch.arange(width + more)[None, :] >= width - torch.tensor(lengths)[:, None]).long()


@torch.inference_mode()
def step(module: Any, ids: Tensor, cache: DynamicCache, mask: Tensor | None, positions: Tensor) -> Tensor:
    """Logits (n, V) after one more token (n, 1) of each text; the cache grows by it."""
    inputs: dict[str, Any] = {"input_ids": ids, "past_key_values": cache, "logits_to_keep": 1, "position_ids": positions.to(ids.device)}
    if mask is not None:
        inputs["attention_mask"] = mask.to(ids.device)
    accepted = arguments(module)
    logits: Tensor = module(**{name: value for name, value in inputs.items() if name in accepted}, use_cache=True).logits[:, -1]
    return logits


def pass_tokens(module: Any) -> int:
    """Tokens of a forward pass that suit the module's device."""
    return PASS_TOKENS.get(next(module.parameters()).device.type, PASS_TOKENS["cuda"])
