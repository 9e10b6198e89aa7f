"""Token ids of documents, memory-mapped, with their tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from paredown.core.artifact import Artifact, Bundle
from paredown.core.errors import UserError

if TYPE_CHECKING:
    import numpy
    from transformers import PreTrainedTokenizerFast

INDEX = "tokens.json"
END_OF_TEXT = "<|endoftext|>"  # id 0; stands before and after each document
SENTINEL = "<extra_id_{}>"  # stands for the n-th stretch that was taken out of a text, from 0


class Tokenizer(Artifact):
    """A `tokenizer.json` (Hugging Face tokenizers) whose id 0 is `<|endoftext|>`."""

    kind = "Tokenizer"

    @cached_property
    def fast(self) -> PreTrainedTokenizerFast:
        """The tokenizer as transformers knows it."""
        from transformers import PreTrainedTokenizerFast

        kind: Any = PreTrainedTokenizerFast
        loaded: PreTrainedTokenizerFast = kind(
            tokenizer_file=str(self.file("tokenizer.json")), bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
        )
        return loaded

    @cached_property
    def special(self) -> dict[str, int]:
        """Ids of the special tokens, by what they are written as."""
        added = self.read_json("tokenizer.json").get("added_tokens") or []
        return {str(token["content"]): int(token["id"]) for token in added if token.get("special")}

    def special_id(self, name: str) -> int:
        """
        Raises:
            UserError: no special token is written so.
        """
        if name not in self.special:
            raise UserError(
                f"the vocabulary has no special token {name!r}",
                where=str(self.path),
                todo=f"make it with corpus.tokenize.bpe and special_tokens: ['{name}'], or do without",
            )
        return self.special[name]

    def sentinels(self) -> list[int]:
        """Ids of `<extra_id_0>`, `<extra_id_1>` and on, as many as there are."""
        found: list[int] = []
        while (name := SENTINEL.format(len(found))) in self.special:
            found.append(self.special[name])
        return found

    def summary(self) -> str:
        return "tokenizer"


class Tokens(Artifact):
    """Ids of documents one after another.

    Files: `ids.npy` (uint16 or uint32, T), `offsets.npy` (int64, documents + 1; document d is ids[offsets[d]:offsets[d+1]]),
    `text_bytes.npy` (int64, documents; UTF-8 bytes of each document's text), `tokenizer.json`, `tokens.json`; where documents
    begin with something that is read and not predicted, such as a question, `given.npy` (int64, documents; tokens of it), and
    then the bytes are those of what is predicted.
    Each document is `<|endoftext|>`, its tokens, `<|endoftext|>`; so every token of text is predicted once, from its own
    document only, and bits per byte are exact.
    """

    kind = "Tokens"

    @cached_property
    def info(self) -> dict[str, Any]:
        """`vocab_size`, `documents`, `tokens`, `bytes`, `end_of_text` (the id)."""
        loaded: dict[str, Any] = self.read_json(INDEX)
        return loaded

    @property
    def vocab_size(self) -> int:
        return int(self.info["vocab_size"])

    @property
    def tokens(self) -> int:
        return int(self.info["tokens"])

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the text that the ids stand for."""
        return int(self.info["bytes"])

    @property
    def end_of_text(self) -> int:
        return int(self.info["end_of_text"])

    @cached_property
    def ids(self) -> numpy.ndarray[Any, Any]:
        """Memory-mapped ids, shape (T,)."""
        return self._array("ids.npy")

    @cached_property
    def offsets(self) -> numpy.ndarray[Any, Any]:
        """Memory-mapped starts, shape (documents + 1,)."""
        return self._array("offsets.npy")

    @cached_property
    def document_bytes(self) -> numpy.ndarray[Any, Any]:
        """UTF-8 bytes of each document, shape (documents,)."""
        return self._array("text_bytes.npy")

    @cached_property
    def given(self) -> numpy.ndarray[Any, Any] | None:
        """Tokens at the beginning of each document's text that are not predicted, shape (documents,); None where all are."""
        return self._array("given.npy") if self.info.get("given") else None

    @property
    def tokenizer(self) -> Tokenizer:
        self.file("tokenizer.json")
        return Tokenizer(self.path)

    def _array(self, name: str) -> numpy.ndarray[Any, Any]:
        import numpy

        array: numpy.ndarray[Any, Any] = numpy.load(self.file(name), mmap_mode="r", allow_pickle=False)
        return array

    def summary(self) -> str:
        ratio = self.text_bytes / max(1, self.tokens)
        return f"{say_tokens(self.tokens)}, {ratio:.2f} bytes a token"

    @classmethod
    def write(
        cls,
        path: Path,
        documents: Iterable[tuple[numpy.ndarray[Any, Any], int] | tuple[numpy.ndarray[Any, Any], int, int]],
        *,
        tokenizer: str,
        vocab_size: int,
        end_of_text: int = 0,
    ) -> Tokens:
        """Write documents, each (its ids without end-of-text, UTF-8 bytes of its text), or all of them with a third number, how many
        of the ids are given; memory holds one at a time.

        `tokenizer` is the text of `tokenizer.json`.
        """
        import numpy

        path.mkdir(parents=True, exist_ok=True)
        dtype = numpy.dtype(numpy.uint16 if vocab_size <= 1 << 16 else numpy.uint32)
        offsets, sizes, given, total = [0], [], [], 0
        mark = numpy.array([end_of_text], dtype=dtype)
        raw = path / "ids.raw"
        with open(raw, "wb") as stream:
            for ids, size, *before in documents:
                for piece in (mark, ids.astype(dtype, copy=False), mark):
                    stream.write(piece.tobytes())
                total += len(ids) + 2
                offsets.append(total)
                sizes.append(size)
                given += before
        with open(path / "ids.npy", "wb") as stream:
            header = {"descr": numpy.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (total,)}
            numpy.lib.format.write_array_header_1_0(stream, header)
            with open(raw, "rb") as source:
                while block := source.read(1 << 24):
                    stream.write(block)
        raw.unlink()
        numpy.save(path / "offsets.npy", numpy.array(offsets, dtype=numpy.int64))
        numpy.save(path / "text_bytes.npy", numpy.array(sizes, dtype=numpy.int64))
        (path / "tokenizer.json").write_text(tokenizer)
        info = {"vocab_size": vocab_size, "documents": len(sizes), "tokens": total, "bytes": int(sum(sizes)), "end_of_text": end_of_text}
        if given:
            numpy.save(path / "given.npy", numpy.array(given, dtype=numpy.int64))
            info["given"] = int(sum(given))
        (path / INDEX).write_bytes(orjson.dumps(info, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
        return cls(path)


def say_tokens(count: int) -> str:
    """Tokens as one reads them."""
    return f"{count / 1e6:,.2f}M tokens" if count >= 1e5 else f"{count:,} tokens"


@dataclass(frozen=True)
class Tokenized(Bundle):
    """Tokens to train on, tokens to measure on, and their tokenizer."""

    train: Tokens
    held_out: Tokens | None = None
    tokenizer: Tokenizer | None = None
