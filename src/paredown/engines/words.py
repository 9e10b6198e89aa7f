"""Words of tables: a vocabulary learnt from the names of columns and from cells, and the ids of a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Fast
from tokenizers import models, normalizers, pre_tokenizers, trainers

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.tables import cells_of, tables_of, tokenizer_text, write_table
from paredown.artifacts.tokens import END_OF_TEXT, Tokenizer
from paredown.core.errors import DataError, UserError

PAD = 0  # id of the mark, which pads
UNKNOWN = "[UNK]"


def learn(tables: Sequence[Examples], size: int, pieces: bool) -> str:
    """A vocabulary as the text of `tokenizer.json`; the same tables give the same text.

    Words are cut as BERT cuts them (at white space and around punctuation, lower case, without accents), and at underscores.
    Where there are more than `size`, the most frequent stay. With `pieces` a word that is not known is cut into pieces that are.

    Raises:
        DataError: there is no word.
    """
    counts = Counter[str]()
    for examples in tables:
        counts.update(_texts(examples))
    words = Counter[str]()
    cut = _fast(models.WordLevel({UNKNOWN: 0}, unk_token=UNKNOWN))
    normalizer: Any = cut.normalizer
    splitter: Any = cut.pre_tokenizer
    for text, count in counts.items():
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)):
            words[word] += count
    if not words:
        raise DataError("neither the columns' names nor the cells hold a word")
    if pieces:
        fast = _fast(models.WordPiece({UNKNOWN: 0}, unk_token=UNKNOWN))
        trainer: Any = trainers.WordPieceTrainer(
            vocab_size=size, min_frequency=1, special_tokens=[END_OF_TEXT, UNKNOWN], show_progress=False
        )
        fast.train_from_iterator((word for word in sorted(words) for _ in range(min(words[word], 1000))), trainer)
    else:
        ranked = sorted(words, key=lambda word: (-words[word], word))[: max(0, size - 2)]
        return word_level(ranked)
    return str(fast.to_str())


def word_level(words: Sequence[str]) -> str:
    """The text of `tokenizer.json` of these words, numbered in their order after the two marks."""
    fast = _fast(models.WordLevel({word: number for number, word in enumerate([END_OF_TEXT, UNKNOWN, *words])}, unk_token=UNKNOWN))
    fast.add_special_tokens([END_OF_TEXT, UNKNOWN])
    return str(fast.to_str())


def _fast(model: Any) -> Fast:
    fast: Any = Fast(model)
    fast.normalizer = normalizers.Sequence([normalizers.Replace("_", " "), normalizers.BertNormalizer(lowercase=True, strip_accents=True)])
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return fast  # type: ignore[no-any-return]


def _texts(examples: Examples) -> Counter[str]:
    """Names of columns, once a table, and the words of cells, as often as they stand there."""
    counts = Counter[str]()
    cells = cells_of(examples)
    for table in tables_of(examples):
        counts.update(column.name for column in table.columns)
    for name in dict.fromkeys(c.name for table in tables_of(examples) for c in table.columns if c.kind == "cat"):
        values = cells[name].drop_nulls().value_counts(sort=False)
        counts.update(dict(zip(values[name].to_list(), values["count"].to_list(), strict=True)))
    return counts


class Words:
    """The ids of texts; a text that comes again is not cut again."""

    def __init__(self, tokenizer: str) -> None:
        self._fast = Fast.from_str(tokenizer)
        self._fast.encode_special_tokens = True  # the mark's text inside a cell stays text
        self._known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self._fast.encode(text, add_special_tokens=False).ids
        return self._known[text]

    def padded(self, texts: Iterable[str]) -> np.ndarray[Any, Any]:
        """Ids of each text, (texts, longest), padded with 0 on the right."""
        return padded([self.ids(text) for text in texts])


def padded(rows: Sequence[Sequence[int]]) -> np.ndarray[Any, Any]:
    """Lists as an array (rows, longest) of int32, padded with 0 on the right."""
    found = np.zeros((len(rows), max((len(row) for row in rows), default=0)), dtype=np.int32)
    for number, row in enumerate(rows):
        found[number, : len(row)] = row
    return found


def of(holder: Tokenizer | Model) -> str:
    """The text of the `tokenizer.json` that lies in a folder.

    Raises:
        UserError: there is none.
    """
    text = tokenizer_text(holder)
    if not text:
        raise UserError(
            "no tokenizer.json lies in the folder", where=str(holder.path), todo="give the tokenizer that corpus.tokenize.words made"
        )
    return text


def worded(examples: Examples, tokenizer: str, folder: Path) -> Examples:
    """The same tables with the words that they are read with."""
    rows = examples.frame()
    return write_table(folder, cells_of(examples), rows["label"], tables_of(examples), of=rows["table"], tokenizer=tokenizer)


def unknown(tables: Sequence[Examples], tokenizer: str) -> list[str]:
    """Some of the names and cells that hold a word of which nothing is known."""
    words = Words(tokenizer)
    mark = Fast.from_str(tokenizer).token_to_id(UNKNOWN)
    return [text for examples in tables for text in _texts(examples) if mark in words.ids(text)][:20]
