"""Forward passes over texts that lie several in a row, and which way a module takes them; `prefill` says what they are for.

Legend: W = wanted positions of a pass, V = vocabulary, H = heads, P = slots before a pass, T = slots of a row, D = width of a head.
"""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from paredown.engines import bins, segments
from paredown.engines.encoder_decoders import is_encoder_decoder, reads_both_ways
from paredown.engines.packing import revealing
from paredown.engines.prefixes import Stretch, forest

if TYPE_CHECKING:
    from paredown.engines.caches import Pair

Array = np.ndarray[Any, Any]
Way = Literal["segments", "mask", "rows"]
Plan = Callable[[list[int]], list[bins.Pass]]  # lengths -> forward passes
WAYS: tuple[Way, ...] = ("segments", "mask", "rows")
UNTAKEN = (TypeError, ValueError, RuntimeError, AttributeError, LookupError)  # what models raise that are given what they do not take
TOLERANCE = {torch.bfloat16: 3e-2, torch.float16: 5e-3}  # of the largest logit, where it is not 1e-4
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
class Placed:
    """A stretch in a pass: the segment that computes it, and the logits that are wanted of it."""

    stretch: Stretch
    segment: segments.Segment
    parent: Placed | None
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
class Before:
    """What was read before a pass and stands before all of it: the shared beginning of a tree that is larger than a pass."""

    keys: Sequence[Pair] = ()
    length: int = 0
    logits: Tensor | None = None
    last: Placed | None = None


class Passes:
    """Forward passes over a forest of stretches."""

    def __init__(self, module: Any, texts: Sequence[Text], plan: Plan, limit: int, way: Way, keep: bool) -> None:
        self.module, self.texts, self.plan, self.limit, self.way, self.keep = module, texts, plan, limit, way, keep
        self.wanted = [np.asarray(text.wanted, dtype=np.int64) for text in texts]
        self.windows: set[int] = set()

    def over(self, stretches: list[Stretch], before: Before) -> Iterator[Reading]:
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

    def _read(self, rows: list[list[Stretch]], before: Before, only_first: bool = False) -> tuple[Reading, Before]:
        """One pass. `only_first`: of the single tree its first stretch, whose keys are kept for what is below."""
        if self.way == "segments":  # a single row has no padding, and texts of one length lie side by side
            rows = [sorted((stretch for row in rows for stretch in row), key=lambda stretch: -stretch.total())]
        placed: list[Placed] = []
        first = 0 if before.logits is None else len(before.logits)
        width = 0
        for number, row in enumerate(rows):
            at = 0
            waiting = [(stretch, before.last) for stretch in reversed(row)]
            while waiting:
                stretch, parent = waiting.pop()
                reads = () if parent is None else ((0, before.length),) if parent is before.last else parent.slots(before.length)
                segment = segments.Segment(number, at, stretch.length, reads)
                placed.append(Placed(stretch, segment, parent, self._wanted_of(stretch), first))
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
        after = Before(keys, before.length + width, logits, placed[-1]) if only_first else Before()
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

    def _rows_of(self, text: int, last: Placed) -> list[Array]:
        """Rows of the logits that a text wants, along the path to its last stretch."""
        found: list[Array] = []
        each: Placed | None = last
        while each is not None:
            found.append(each.first + np.searchsorted(each.wanted, _within(self.wanted[text], each.stretch)))
            each = each.parent
        return found[::-1]

    def _forward(
        self, placed: list[Placed], layout: segments.Layout, rows: int, width: int, before: Before, keep: bool
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
            return forward(self.module, inputs, wanted, keep, before.keys)


def _within(wanted: Array, stretch: Stretch) -> Array:
    """Those of the wanted positions, which rise, that a stretch holds."""
    low, high = np.searchsorted(wanted, (stretch.start, stretch.end))
    return wanted[low:high]


def forward(module: Any, inputs: dict[str, Any], wanted: Tensor, keep: bool, before: Sequence[Pair] = ()) -> tuple[Tensor, list[Pair]]:
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
    accepted = arguments(module)
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


def arguments(module: Any) -> frozenset[str]:
    return frozenset(inspect.signature(module.forward).parameters)


def keeps(module: torch.nn.Module) -> bool:
    """Whether the module reads a prompt causally and all that it keeps of it is keys and values, which can be cut and moved."""
    if is_encoder_decoder(module) or reads_both_ways(module):
        return False
    if module not in _keeps:  # tried once on two tokens
        try:
            _, keys = _last(module, [1, 0], keep=True)
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


@torch.no_grad()
def _takes(module: Any, way: Way) -> bool:
    """Whether texts in a row get the logits that they get alone, with what they share in the same pass and in one before."""
    if not hasattr(module, "config") or "position_ids" not in arguments(module):
        return False
    windows = segments.windows(module)
    if -1 in windows or (way == "mask" and windows != {0}):
        return False
    size = module.get_input_embeddings().num_embeddings
    texts = [[5, 1, 2, 3, 4], [1, 2, 3, 1, 5, 6, 7, 2], [1, 2, 3, 2, 4], [2]]
    texts = [[token % size for token in ids] for ids in texts]
    asked = [Text(ids, [len(ids) - 1]) for ids in texts]
    try:
        with revealing(module):
            alone = [_last(module, ids)[0] for ids in texts]
        for limit in (64, 8):
            with revealing(module), segments.attention(module) if way == "segments" else contextlib.nullcontext():
                passes = Passes(module, asked, lambda lengths: [[list(range(len(lengths)))]] if lengths else [], limit, way, False)
                for reading in passes.over(forest(texts, 3), Before()):
                    for number, logits in zip(reading.texts, reading.logits, strict=True):
                        scale = float(alone[number].abs().max())
                        if not float((logits - alone[number]).abs().max()) <= TOLERANCE.get(logits.dtype, 1e-4) * scale:
                            return False
            if way == "segments" and passes.windows != windows:
                return False
    except UNTAKEN:
        return False
    return True


def _last(module: Any, ids: list[int], keep: bool = False) -> tuple[Tensor, list[Pair]]:
    """(logits (V,) after a text that is alone, keys and values where they are kept)."""
    where = device_of(module)
    logits, keys = forward(module, {"input_ids": torch.tensor([ids], device=where)}, torch.tensor([len(ids) - 1], device=where), keep)
    return logits[0], keys


def device_of(module: Any) -> torch.device:
    found: torch.device = next(module.parameters()).device
    return found
