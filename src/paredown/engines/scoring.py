"""Nats of every document under a causal language model: windows of one document each, read several at a time (see `prefill`).

No window ever sees another, and positions start at 0 in every window.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.engines import prefill
from paredown.engines.flops import counter
from paredown.engines.prefill import Text

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from paredown.artifacts.model import Model
    from paredown.artifacts.tokens import Tokens

LOGITS_BYTES = 1 << 30  # what the float32 logits of one forward pass may take
SAVE_EVERY = 1 << 21  # predicted tokens between two saves to the step's scratch folder
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Nats:
    """What a model says about documents: sums over each document's predicted tokens."""

    documents: Array  # numbers of the documents in their Tokens, (N,)
    nats: Array  # float64, (N,)
    tokens: Array  # predicted tokens, (N,)
    text_bytes: Array  # UTF-8 bytes, (N,)
    read: int  # tokens that went through the model, repeated context counted
    flops: float


@dataclass(frozen=True)
class Windows:
    """Stretches of documents: window w reads `size[w]` ids of document row `row[w]` from `start[w]` on, and its last
    `size[w] - skip[w]` predictions count; the first `skip[w]` were scored by the window before."""

    row: Array
    start: Array
    size: Array
    skip: Array


def device() -> torch.device:
    """Where models run: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(model: Model, precision: str = "stored") -> PreTrainedModel:
    """The module ready to be measured: in evaluation mode, on its device, in the named dtype or the stored one."""
    module: Any = model.load(None if precision == "stored" else getattr(torch, precision))
    ready: PreTrainedModel = module.to(device())
    return ready


def context_of(module: Any) -> int:
    """Most tokens that a module takes.

    Raises:
        UserError: it is a network of our own, which reads no text.
    """
    if not hasattr(module, "config"):
        raise UserError(f"{type(module).__name__} is no language model: it reads no text", todo="measure.accuracy takes a classifier")
    return context_length(module.config)


def context_length(config: Any) -> int:
    """Most tokens that a model of this configuration takes; 2048 where it names no bound."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "seq_length"):
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return 2048


def vocabulary(module: Any) -> int:
    """Rows of the embedding: how many ids the model knows."""
    return int(module.get_input_embeddings().weight.shape[0])


def check_vocabulary(model: Model, tokens: Tokens, rows: int) -> None:
    """Refuse ids that are not this model's: more of them than it has embeddings, or another tokenizer.

    Raises:
        UserError: the ids were made with another tokenizer.
    """
    what = ""
    if tokens.vocab_size > rows:
        what = f"the tokens have a vocabulary of {tokens.vocab_size:,}, the model one of {rows:,}"
    elif (model.path / "tokenizer.json").exists() and (tokens.path / "tokenizer.json").exists():
        own, theirs = (json.loads(a.file("tokenizer.json").read_bytes()).get("model", {}).get("vocab") for a in (model, tokens))
        if own != theirs:
            what = "the tokens were made with another tokenizer than the model's"
    if what:
        raise UserError(what, where=str(tokens.path), todo="tokenize with the model's own tokenizer, or take a model trained on these")


def spread_order(count: int) -> Array:
    """All numbers below `count` in one fixed order that is spread over them: the same for every arm and seed."""
    return np.argsort((np.arange(count, dtype=np.uint64) * np.uint64(2654435761)) % np.uint64(1 << 32), kind="stable")


def first_documents(tokens: Tokens, most: float | None) -> Array:
    """Documents in `spread_order` until `most` predicted tokens are reached (never past it, but at least one).

    Raises:
        DataError: there is no document.
    """
    order = spread_order(len(tokens.offsets) - 1)
    if not len(order):
        raise DataError("there is no document to measure on", where=str(tokens.path), todo="give tokens with at least one document")
    if most is None:
        return np.sort(order)
    total = np.cumsum((np.diff(tokens.offsets) - 1)[order])
    return np.sort(order[: max(1, int(np.searchsorted(total, most, side="right")))])


def windows(sizes: Array, length: int, stride: int) -> Windows:
    """Windows over documents of `sizes` ids: each id but the first is predicted and scored exactly once."""
    inputs = np.maximum(np.asarray(sizes, dtype=np.int64) - 1, 0)  # the last id is only predicted
    counts = np.where(inputs > 0, 1 + -(-np.maximum(inputs - length, 0) // stride), 0)
    row = np.repeat(np.arange(len(inputs)), counts)
    number = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = number * stride
    end = np.minimum(start + length, inputs[row])
    before = np.where(number > 0, np.minimum(start - stride + length, inputs[row]), 0)
    return Windows(row, start, end - start, np.maximum(before - start, 0))


def batches(sizes: Array, cells: int) -> Iterator[Array]:
    """Window numbers, longest first, in batches of at most `cells` padded tokens (but at least one window)."""
    order = np.argsort(-sizes, kind="stable")
    at = 0
    while at < len(order):
        step = max(1, cells // int(sizes[order[at]]))
        yield order[at : at + step]
        at += step


def forward_flops(module: torch.nn.Module, most: int) -> tuple[float, float]:
    """(a, b) such that one row of n tokens takes a n + b n^2 FLOPs, by counting two short rows.

    Linear layers are the first term and attention, whose masked half is counted too, the second.
    """
    lengths = (min(8, max(1, most // 2)), min(16, most))
    counts = []
    for length in lengths:
        ids = torch.zeros((1, length), dtype=torch.long, device=next(module.parameters()).device)
        with counter() as counting, torch.inference_mode():
            module(input_ids=ids, use_cache=False)
        counts.append(float(counting.get_total_flops()))
    (short, long), (low, high) = lengths, counts
    if short == long:
        return low / short, 0.0
    squared = (high / long - low / short) / (long - short)
    return low / short - squared * short, squared


def nats(module: torch.nn.Module, tokens: Tokens, documents: Array, *, length: int, stride: int, batch: int) -> Nats:
    """Score `documents` of `tokens`; the module is in evaluation mode on its device.

    Sums so far are kept in the step's scratch folder, so that a killed measurement goes on where it was.

    Raises:
        DataError: the model's loss on a document is not finite.
    """
    offsets = np.asarray(tokens.offsets)
    begin, end = offsets[documents], offsets[documents + 1]
    given = None if tokens.given is None else np.asarray(tokens.given)[documents]
    parts = windows(end - begin, length, stride)
    cells = min(batch * length, max(length, LOGITS_BYTES // (4 * vocabulary(module))))
    plan = list(batches(parts.size, cells))
    most = min(cells, prefill.pass_tokens(module))  # of these at once
    linear, squared = forward_flops(module, length)
    sums, done = np.zeros(len(documents)), 0
    mark = hashlib.sha256(repr((documents.tolist(), length, stride, cells)).encode()).hexdigest()
    saved = context().scratch / "nats.npz"
    if saved.exists():
        with np.load(saved, allow_pickle=False) as state:
            if str(state["mark"]) == mark:
                sums, done = state["sums"].copy(), int(state["done"])
    where = next(module.parameters()).device
    read = int(parts.size.sum())
    finished = int(sum(parts.size[chosen].sum() for chosen in plan[:done]))
    unsaved = 0
    for number, chosen in enumerate(plan[done:], start=done + 1):
        texts, targets = _texts(tokens, begin, given, parts, chosen)
        for reading in prefill.prepacked(module, texts, tokens=most, share=0):
            wanted = torch.from_numpy(np.concatenate([targets[text] for text in reading.texts])).to(where)
            loss = torch.nn.functional.cross_entropy(reading.logits.float(), wanted, reduction="none").double().cpu().numpy()
            windows_of = np.repeat(chosen[reading.texts], [len(targets[text]) for text in reading.texts])
            np.add.at(sums, parts.row[windows_of], loss)
        if not np.isfinite(sums[parts.row[chosen]]).all():
            worst = int(documents[parts.row[chosen][~np.isfinite(sums[parts.row[chosen]])][0]])
            raise DataError(
                f"the model's loss on document {worst} is not finite",
                where=str(tokens.path),
                todo="look at the model's weights: some are NaN or infinite",
            )
        finished += int(parts.size[chosen].sum())
        unsaved += int(parts.size[chosen].sum())
        context().progress(finished, read, "tokens")
        if unsaved >= SAVE_EVERY:
            _save(saved, mark=np.array(mark), sums=sums, done=np.array(number))
            unsaved = 0
    sizes = parts.size.astype(np.float64)
    flops = float((linear * sizes + squared * sizes**2).sum())
    predicted = np.maximum(end - begin - 1 - (0 if given is None else given), 0)
    return Nats(documents, sums, predicted, np.asarray(tokens.document_bytes)[documents], read, flops)


def _texts(tokens: Tokens, begin: Array, given: Array | None, parts: Windows, chosen: Array) -> tuple[list[Text], list[Array]]:
    """Windows as texts, and the targets of each: not those that another window scores, nor what is given."""
    texts, targets = [], []
    for window in chosen:
        first, size, skip = int(begin[parts.row[window]] + parts.start[window]), int(parts.size[window]), int(parts.skip[window])
        stretch = np.asarray(tokens.ids[first : first + size + 1], dtype=np.int64)
        if given is not None:
            skip = max(skip, min(size, int(given[parts.row[window]]) - int(parts.start[window])))
        texts.append(Text(stretch[:-1], np.arange(skip, size)))
        targets.append(stretch[skip + 1 :])
    return texts, targets


def _save(path: Path, **arrays: Array) -> None:
    part = path.with_suffix(".part.npz")
    np.savez(part, **arrays)  # type: ignore[arg-type]
    part.rename(path)
