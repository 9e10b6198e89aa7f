"""Encoding with a tokenizer that exists."""

from __future__ import annotations

from typing import ClassVar

from pydantic import field_validator

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.tokens import Tokenizer, Tokens
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.core.strategy import Strategy


class Encode(Strategy):
    """Encode a corpus with a tokenizer that exists, such as the one that another corpus was trained with.

    With `given`, each document is that column's text and then its own, encoded apart; only its own is a target of training
    and of measures, and bits per byte count its bytes alone. So questions are read and answers are learned.

    Source: none (ours).
    Costs: one pass over the text.
    Control: none (arms share it).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-tokens", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (86,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    given: str = ""  # column of the corpus whose text stands before and is not predicted; none: all is predicted

    @field_validator("given")
    @classmethod
    def _stands_before(cls, value: str) -> str:
        if value == "text":
            raise ValueError("text is what is predicted: name the column that stands before it")
        return value

    def __call__(self, corpus: Corpus, tokenizer: Tokenizer) -> Tokens:
        """
        Raises:
            UserError: the corpus has no such column of text.
        """
        import polars as pl

        from paredown.engines import byte_pairs

        if self.given:
            schema = corpus.frame(corpus.shards()[0]["name"]).schema if corpus.shards() else {self.given: pl.String}
            if schema.get(self.given) != pl.String:
                texts = ", ".join(name for name, kind in schema.items() if kind == pl.String)
                raise UserError(f"the corpus has no column of text named {self.given}", where=str(corpus.path), todo=f"there is {texts}")
        here = context()
        made = byte_pairs.encode(corpus, tokenizer.file("tokenizer.json").read_text(), here.output("tokens"), "documents", self.given)
        here.charge(tokens=made.tokens, documents=corpus.documents)
        return made
