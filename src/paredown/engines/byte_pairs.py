"""Byte-level BPE by the tokenizers library, shard by shard in bounded memory."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Fast
from tokenizers import decoders, models, pre_tokenizers, trainers

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.tokens import END_OF_TEXT, Tokenizer, Tokens
from paredown.core.context import Context, context
from paredown.core.errors import DataError, UserError

BATCH = 256  # texts encoded at once
AT_ONCE = 4_000_000  # characters of all of them
LONGEST = 1_000_000  # characters of one; a longer document is encoded in pieces cut at line ends
WORD = 1000  # characters of a run that merges are learnt from at once; the time to learn grows with its square
RUNS = re.compile(rf"(?<!\S)\S{{{WORD + 1},}}|(?<!\s)\s{{{WORD + 1},}}")


def learn(corpus: Corpus, vocab_size: int, min_frequency: int, training_bytes: int) -> str:
    """A vocabulary as the text of `tokenizer.json`; the same corpus gives the same text."""
    if not corpus.text_bytes:
        raise DataError("the corpus holds no text to learn a vocabulary from", where=str(corpus.path))
    fast = Fast(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    fast.train_from_iterator(_texts(corpus, training_bytes, context()), trainer)
    return str(fast.to_str())


def extended(vocabulary: str, special: Sequence[str]) -> str:
    """The vocabulary with special tokens behind all others; their text inside a document stays text.

    Raises:
        UserError: one of them is empty, or a token already.
    """
    if not special:
        return vocabulary
    fast = Fast.from_str(vocabulary)
    known = fast.get_vocab()
    for name in special:
        if not name or name in known or special.count(name) > 1:
            raise UserError(
                f"{name!r} cannot become a special token: it is {'a token already' if name else 'empty'}", where="special_tokens"
            )
    fast.add_special_tokens(list(special))
    return str(fast.to_str())


def _texts(corpus: Corpus, most: int, step: Context) -> Iterator[list[str]]:
    """What to learn from: the first `most` bytes of the corpus. The library asks for it in a thread of its own, which knows no `context()`."""
    total = min(most, corpus.text_bytes)
    left = total
    for frame in corpus.frames(["id", "text"]):
        endless = frame["text"].str.contains(rf"\S{{{WORD + 1}}}|\s{{{WORD + 1}}}")  # fast where there are none
        for text, cut in zip(frame["text"], endless, strict=True):
            for piece in pieces(text):
                raw = piece.encode()
                piece = piece if len(raw) <= left else raw[:left].decode(errors="ignore")
                yield words(piece) if cut else [piece]
                left -= min(left, len(raw))
                if not left:
                    return
            step.progress(total - left, total, "bytes", "learning the vocabulary")


def words(text: str) -> list[str]:
    """A text with its endless runs, whether of white space or of anything else, cut after every 1,000 characters."""
    cuts = {0, len(text)}
    for run in RUNS.finditer(text):
        cuts.update(range(run.start(), run.end(), WORD))
    return [text[begin:end] for begin, end in itertools.pairwise(sorted(cuts))]


def pieces(text: str) -> list[str]:
    """A text in pieces of bounded length, cut after line ends where there are any; together they are the text."""
    if len(text) <= LONGEST:
        return [text]
    found, begin = [], 0
    while begin < len(text):
        end = begin + LONGEST
        if end < len(text):
            line = text.rfind("\n", begin, end)
            end = line + 1 if line > begin else end
        found.append(text[begin:end])
        begin = end
    return found


def encode(corpus: Corpus, vocabulary: str, folder: Path, what: str, given: str = "") -> Tokens:
    """Encode every document into `folder`; memory holds one shard of text, a batch, and the ids of the longest document.

    `given` names the column of text that stands before each document's own and is not predicted.
    """
    fast = Fast.from_str(vocabulary)
    fast.encode_special_tokens = True  # the mark's text inside a document stays text
    return Tokens.write(folder, _documents(corpus, fast, what, given), tokenizer=vocabulary, vocab_size=fast.get_vocab_size())


def _documents(
    corpus: Corpus, fast: Fast, what: str, given: str
) -> Iterator[tuple[np.ndarray[Any, Any], int] | tuple[np.ndarray[Any, Any], int, int]]:
    done = 0
    columns = [given, "text"] if given else ["text"]
    for frame in corpus.frames(["id", *columns]):
        if given and frame[given].null_count():
            where = str(frame["id"][int(frame[given].is_null().arg_max() or 0)])
            raise DataError(f"{given} of a document is missing", where=f"document {where}", todo="leave such documents out")
        rows = list(zip(*(frame[name] for name in columns), strict=True))
        ids = encoded((piece for row in rows for text in row for piece in pieces(text)), fast)
        for row in rows:
            size = len(row[-1].encode())
            done += size
            *before, text = [np.concatenate([next(ids) for _ in pieces(text)]) for text in row]
            yield (np.concatenate([*before, text]), size, len(before[0])) if before else (text, size)
            context().progress(done, corpus.text_bytes, "bytes", f"encoding {what}")


def encoded(texts: Iterable[str], fast: Fast) -> Iterator[np.ndarray[Any, Any]]:
    """The ids of each text; the library takes some 30 bytes for each that it has at once, so that batches are bounded."""
    batch: list[str] = []
    size = 0
    for text in itertools.chain(texts, [None]):
        if batch and (text is None or len(batch) == BATCH or size + len(text) > AT_ONCE):
            for some in fast.encode_batch_fast(batch, add_special_tokens=False):
                yield np.array(some.ids, dtype=np.uint32)
            batch, size = [], 0
        if text is not None:
            batch.append(text)
            size += len(text)


def save(vocabulary: str, folder: Path) -> Tokenizer:
    """The tokenizer as an artifact of its own."""
    (folder / "tokenizer.json").write_text(vocabulary)
    return Tokenizer(folder)
