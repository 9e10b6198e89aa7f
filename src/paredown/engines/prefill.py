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
import inspect
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from paredown.core.errors import UserError
from paredown.engines import bins, segments
from paredown.engines.encoder_decoders import is_encoder_decoder, reads_both_ways
from paredown.engines.prefixes import Stretch, forest

if TYPE_CHECKING:
    from transformers.cache_utils import DynamicCache

    from paredown.engines.caches import Pair

Array = np.ndarray[Any, Any]
Way = Literal["segments", "mask", "rows"]
Plan = Callable[[list[int]], list[bins.Pass]]  # lengths -> forward passes
WAYS: tuple[Way, ...] = ("segments", "mask", "rows")
UNTAKEN = (TypeError, ValueError, RuntimeError, AttributeError, LookupError)  # what models raise that are given what they do not take
PASS_TOKENS = {"cpu": 1024, "cuda": 16384}  # tokens of a forward pass; on 2 cores 512 to 2048 are equally quick, 8192 a tenth slower
_taken: weakref.WeakKeyDictionary[torch.nn.Module, dict[Way, bool]] = weakref.WeakKeyDictionary()
_keeps: weakref.WeakKeyDictionary[torch.nn.Module, bool] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Text:
    """Token ids, and the positions after which the next token's logits are wanted, rising."""

    ids: Sequence[int] | Array
    wanted: Sequence[int] | Array = ()


@dataclass
class Reading:
    """What one forward pass says of the texts that end in it."""

    texts: list[int]  # their numbers
    logits: Tensor  # (W, V), the wanted positions of these texts one after another
    keys: list[Pair] = field(default_factory=list)  # of every layer, (rows, H, P + T, D), where they are kept
    slots: Sequence[tuple[int, Sequence[tuple[int, int]]]] = field(default_factory=list)  # of each text: its row, stretches of its slots


@dataclass
class Begun:
    """Prompts that are read: what decoding goes on from."""

    logits: Tensor  # (n, V) after each prompt
    cache: DynamicCache  # every prompt ends at the same slot
    lengths: list[int]


@dataclass
class _Placed:
    """A stretch in a pass: the segment that computes it, and the logits that are wanted of it."""

    stretch: Stretch
    segment: segments.Segment
    parent: _Placed | None
    wanted: Array
    first: int  # row of its first logits

    def slots(self, before: int) -> tuple[tuple[int, int], ...]:
        """Slots of all keys from the text's first token to this stretch's last."""
        own = before + self.segment.start, before + self.segment.start + self.segment.length
        reads = self.segment.reads
        if reads and reads[-1][1] == own[0]:
            return (*reads[:-1], (reads[-1][0], own[1]))
        return (*reads, own)


@dataclass
class _Before:
    """What was read before a pass and stands before all of it: the shared beginning of a tree that is larger than a pass."""

    keys: Sequence[Pair] = ()
    length: int = 0
    logits: Tensor | None = None
    last: _Placed | None = None


class _Passes:
    """Forward passes over a forest of stretches."""

    def __init__(self, module: Any, texts: Sequence[Text], plan: Plan, limit: int, way: Way, keep: bool) -> None:
        self.module, self.texts, self.plan, self.limit, self.way, self.keep = module, texts, plan, limit, way, keep
        self.wanted = [np.asarray(text.wanted, dtype=np.int64) for text in texts]
        self.windows: set[int] = set()

    def over(self, stretches: list[Stretch], before: _Before) -> Iterator[Reading]:
        """Small trees are packed whole; of one that is larger than a pass, the shared beginning is read first and kept."""
        large = [stretch for stretch in stretches if stretch.children and stretch.total() > self.limit]
        small = [stretch for stretch in stretches if not stretch.children or stretch.total() <= self.limit]
        for chosen in self.plan([stretch.total() for stretch in small]):
            yield self._read([[small[number] for number in row] for row in chosen], before)[0]
        for stretch in large:
            reading, after = self._read([[stretch]], before, only_first=True)
            if reading.texts:
                yield reading
            del reading
            yield from self.over(stretch.children, after)

    def _read(self, rows: list[list[Stretch]], before: _Before, only_first: bool = False) -> tuple[Reading, _Before]:
        """One pass. `only_first`: of the single tree its first stretch, whose keys are kept for what is below."""
        if self.way == "segments":  # a single row has no padding, and texts of one length lie side by side
            rows = [sorted((stretch for row in rows for stretch in row), key=lambda stretch: -stretch.total())]
        placed: list[_Placed] = []
        first = 0 if before.logits is None else len(before.logits)
        width = 0
        for number, row in enumerate(rows):
            at = 0
            waiting = [(stretch, before.last) for stretch in reversed(row)]
            while waiting:
                stretch, parent = waiting.pop()
                reads = () if parent is None else ((0, before.length),) if parent is before.last else parent.slots(before.length)
                segment = segments.Segment(number, at, stretch.length, reads)
                placed.append(_Placed(stretch, segment, parent, self._wanted_of(stretch), first))
                at, first = at + stretch.length, first + len(placed[-1].wanted)
                if not only_first:
                    below = sorted(stretch.children, key=lambda each: -each.total())
                    waiting += [(child, placed[-1]) for child in below]
            width = max(width, at)
        layout = segments.Layout([each.segment for each in placed], before.length)
        logits, keys = self._forward(placed, layout, len(rows), width, before, keep=self.keep or only_first)
        self.windows |= layout.windows
        if before.logits is not None:
            logits = torch.cat([before.logits, logits])
        after = _Before(keys, before.length + width, logits, placed[-1]) if only_first else _Before()
        ending = [(text, each) for each in placed for text in each.stretch.texts]
        chosen = np.concatenate([np.zeros(0, dtype=np.int64), *(rows for text, each in ending for rows in self._rows_of(text, each))])
        if len(chosen) != len(logits) or (np.diff(chosen) != 1).any():
            logits = logits[torch.from_numpy(chosen).to(logits.device)]
        slots = [(each.segment.row, each.slots(before.length)) for _, each in ending]
        return Reading([text for text, _ in ending], logits, keys if self.keep else [], slots), after

    def _wanted_of(self, stretch: Stretch) -> Array:
        """Positions of a stretch whose logits some text wants that it belongs to."""
        texts = stretch.texts if not stretch.children else [text for each in stretch.walk() for text in each.texts]
        found = [_within(self.wanted[text], stretch) for text in texts]
        return found[0] if len(found) == 1 else np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)

    def _rows_of(self, text: int, last: _Placed) -> list[Array]:
        """Rows of the logits that a text wants, along the path to its last stretch."""
        found: list[Array] = []
        each: _Placed | None = last
        while each is not None:
            found.append(each.first + np.searchsorted(each.wanted, _within(self.wanted[text], each.stretch)))
            each = each.parent
        return found[::-1]

    def _forward(
        self, placed: list[_Placed], layout: segments.Layout, rows: int, width: int, before: _Before, keep: bool
    ) -> tuple[Tensor, list[Pair]]:
        where = next(self.module.parameters()).device
        ids = np.zeros((rows, width), dtype=np.int64)
        positions = np.zeros((rows, width), dtype=np.int64)
        asked = [np.zeros(0, dtype=np.int64)]
        for each in placed:
            stretch, row, start = each.stretch, each.segment.row, each.segment.start
            ids[row, start : start + stretch.length] = self.texts[stretch.of].ids[stretch.start : stretch.end]
            positions[row, start : start + stretch.length] = np.arange(stretch.start, stretch.end)
            asked.append(row * width + start + each.wanted - stretch.start)
        inputs: dict[str, Any] = {"input_ids": torch.from_numpy(ids).to(where)}
        if self.way != "rows":
            inputs["position_ids"] = torch.from_numpy(positions).to(where)
        if self.way == "mask":
            inputs["attention_mask"] = layout.mask(rows, width, next(self.module.parameters()).dtype, where)
        wanted = torch.from_numpy(np.concatenate(asked)).to(where)
        if not width:  # nothing but empty texts
            return torch.empty(0, 0, device=where), []
        with segments.laid(layout) if self.way == "segments" else contextlib.nullcontext():
            return _forward(self.module, inputs, wanted, keep, before.keys)


def _within(wanted: Array, stretch: Stretch) -> Array:
    """Those of the wanted positions, which rise, that a stretch holds."""
    low, high = np.searchsorted(wanted, (stretch.start, stretch.end))
    return wanted[low:high]


def _forward(module: Any, inputs: dict[str, Any], wanted: Tensor, keep: bool, before: Sequence[Pair] = ()) -> tuple[Tensor, list[Pair]]:
    """(logits (W, V) at the `wanted` slots, counted over rows and columns; keys and values of every layer where they are kept).

    The output matrix sees the wanted slots only, whatever else the model does with its logits.
    """
    chosen = False

    def choose(_: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal chosen
        chosen = True
        hidden = arguments[0]
        return (hidden.flatten(0, 1).index_select(0, wanted)[None], *arguments[1:])

    if keep or before:
        from paredown.engines import caches

        inputs = {**inputs, "past_key_values": caches.kept(before)}
    accepted = _arguments(module)
    inputs = {name: value for name, value in inputs.items() if name in accepted}
    head = getattr(module, "get_output_embeddings", lambda: None)()
    hook = head.register_forward_pre_hook(choose) if isinstance(head, torch.nn.Module) else None
    try:
        with torch.inference_mode():
            result = module(**inputs, use_cache=keep or bool(before))
    finally:
        if hook is not None:
            hook.remove()
    logits = result.logits[0] if chosen else result.logits.flatten(0, 1).index_select(0, wanted)
    return logits, caches.pairs(result.past_key_values) if keep else []


def _arguments(module: Any) -> frozenset[str]:
    return frozenset(inspect.signature(module.forward).parameters)


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
        passes = _Passes(module, texts, plan if way != "rows" else _single(plan), limit or pass_tokens(module), way, keep)
        yield from passes.over(trees, _Before())


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
        logits, keys = _forward(module, inputs, torch.from_numpy(np.concatenate(wanted)).to(where), keep)
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
        last = torch.tensor([each[-1:] for each in ids], device=_device(module))
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
    accepted = _arguments(module)
    logits: Tensor = module(**{name: value for name, value in inputs.items() if name in accepted}, use_cache=True).logits[:, -1]
    return logits


def pass_tokens(module: Any) -> int:
    """Tokens of a forward pass that suit the module's device."""
    return PASS_TOKENS.get(next(module.parameters()).device.type, PASS_TOKENS["cuda"])


def keeps(module: torch.nn.Module) -> bool:
    """Whether the module reads a prompt causally and all that it keeps of it is keys and values, which can be cut and moved."""
    if is_encoder_decoder(module) or reads_both_ways(module):
        return False
    if module not in _keeps:  # tried once on two tokens
        try:
            _, keys = _forward(
                module, {"input_ids": torch.tensor([[1, 0]], device=_device(module))}, torch.tensor([1], device=_device(module)), True
            )
            _keeps[module] = bool(keys) and all(k.shape[-2] == v.shape[-2] == 2 for k, v in keys)
        except UNTAKEN:
            _keeps[module] = False
    return _keeps[module]


def way_of(module: torch.nn.Module) -> Way:
    """The best way that this module takes correctly."""
    return next(way for way in WAYS if takes(module, way))


def takes(module: torch.nn.Module, way: Way) -> bool:
    """Whether the module takes texts this way correctly; tried once on short texts, two of which begin alike and one of which is one token."""
    known = _taken.setdefault(module, {})
    if way not in known:
        known[way] = way == "rows" or _takes(module, way)
    return known[way]


def _takes(module: Any, way: Way) -> bool:
    """Whether texts in a row get the logits that they get alone, with what they share in the same pass and in one before."""
    if not hasattr(module, "config") or "position_ids" not in _arguments(module):
        return False
    windows = segments.windows(module)
    if -1 in windows or (way == "mask" and windows != {0}):
        return False
    size = module.get_input_embeddings().num_embeddings
    texts = [[5, 1, 2, 3, 4], [1, 2, 3, 1, 5, 6, 7, 2], [1, 2, 3, 2, 4], [2]]
    texts = [[token % size for token in ids] for ids in texts]
    asked = [Text(ids, [len(ids) - 1]) for ids in texts]
    try:
        alone = [
            _forward(
                module,
                {"input_ids": torch.tensor([ids], device=_device(module))},
                torch.tensor([len(ids) - 1], device=_device(module)),
                False,
            )[0][0]
            for ids in texts
        ]
        for limit in (64, 8):
            with segments.attention(module) if way == "segments" else contextlib.nullcontext():
                passes = _Passes(module, asked, lambda lengths: [[list(range(len(lengths)))]] if lengths else [], limit, way, False)
                for reading in passes.over(forest(texts, 3), _Before()):
                    for number, logits in zip(reading.texts, reading.logits, strict=True):
                        scale = float(alone[number].abs().max())
                        if not float((logits - alone[number]).abs().max()) <= _TOLERANCE.get(logits.dtype, 1e-4) * scale:
                            return False
            if way == "segments" and passes.windows != windows:
                return False
    except UNTAKEN:
        return False
    return True


_TOLERANCE = {torch.bfloat16: 3e-2, torch.float16: 5e-3}  # of the largest logit


def _device(module: Any) -> torch.device:
    found: torch.device = next(module.parameters()).device
    return found
