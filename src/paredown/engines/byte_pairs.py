"""Byte-level BPE by the tokenizers library, shard by shard in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Fast
from tokenizers import decoders, models, pre_tokenizers, trainers

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.tokens import END_OF_TEXT, Tokenizer, Tokens
from paredown.core.context import context
from paredown.core.errors import DataError

BATCH = 256  # documents encoded at once
LONGEST = 1_000_000  # characters encoded at once; a longer document is encoded in pieces cut at line ends


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
    fast.train_from_iterator(_texts(corpus, training_bytes), trainer)
    return str(fast.to_str())


def _texts(corpus: Corpus, most: int) -> Iterator[list[str]]:
    seen = 0
    for frame in corpus.frames(["id", "text"]):
        for begin in range(0, frame.height, BATCH):
            texts = frame["text"][begin : begin + BATCH].to_list()
            yield [piece for text in texts for piece in pieces(text)]
            seen += sum(len(text) for text in texts)
            context().progress(seen, corpus.text_bytes, "bytes", "learning the vocabulary")
            if seen >= most:
                return


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


def encode(corpus: Corpus, vocabulary: str, folder: Path, what: str) -> Tokens:
    """Encode every document into `folder`; memory holds one shard of text and a batch of ids."""
    fast = Fast.from_str(vocabulary)
    fast.encode_special_tokens = True  # the mark's text inside a document stays text
    return Tokens.write(folder, _documents(corpus, fast, what), tokenizer=vocabulary, vocab_size=fast.get_vocab_size())


def _documents(corpus: Corpus, fast: Fast, what: str) -> Iterator[tuple[np.ndarray[Any, Any], int]]:
    done = 0
    for frame in corpus.frames(["id", "text"]):
        for begin in range(0, frame.height, BATCH):
            texts = frame["text"][begin : begin + BATCH].to_list()
            cut = [pieces(text) for text in texts]
            encoded = iter(fast.encode_batch_fast([piece for row in cut for piece in row], add_special_tokens=False))
            for text, row in zip(texts, cut, strict=True):
                ids = [np.array(next(encoded).ids, dtype=np.uint32) for _ in row]
                size = len(text.encode())
                done += size
                yield (ids[0] if len(ids) == 1 else np.concatenate(ids)), size
            context().progress(done, corpus.text_bytes, "bytes", f"encoding {what}")


def save(vocabulary: str, folder: Path) -> Tokenizer:
    """The tokenizer as an artifact of its own."""
    (folder / "tokenizer.json").write_text(vocabulary)
    return Tokenizer(folder)
