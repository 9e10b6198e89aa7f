"""Several corpora in exact shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.tokens import Tokenizer
from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.core.strategy import Positive, Strategy

if TYPE_CHECKING:
    import numpy
    import polars


class Proportion(Strategy):
    """Mix corpora so that each has its share of the text: documents are drawn from each in random order until the share is reached.

    The text that is mixed is as much as the scarcest corpus allows, or `total` of it. No document is taken twice; the share is exact up to
    one document of each corpus. Text is counted in bytes, or, with a tokenizer, in its tokens: clean text takes fewer of them a byte.
    Documents keep their columns where all corpora have them, and get the column `part`, the number of their corpus.

    Source: none (ours); real and rewritten text in equal shares as in Maini et al. 2024, arXiv 2401.16380, section 3.
    Costs: one pass over the corpora, with a tokenizer encoding them; memory of one number a document.
    Control: none (its shares are what is compared)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (28,)
    seeded: ClassVar[bool] = True

    shares: tuple[Annotated[float, Field(gt=0)], ...] = ()  # relative shares of the corpora, in their order; default equal ones
    total: Positive | None = None  # UTF-8 bytes of text in all, or tokens, about; default as many as there can be

    def __call__(self, corpora: tuple[Corpus, ...], tokenizer: Tokenizer | None = None) -> Corpus:
        """
        Raises:
            UserError: there is no corpus, more or fewer shares than corpora, or not so much text.
            DataError: a corpus holds no text.
        """
        import numpy

        here = context()
        if not corpora:
            raise UserError("there is no corpus to mix", where="corpora")
        shares = numpy.array(self.shares or [1.0] * len(corpora))
        if len(shares) != len(corpora):
            raise UserError(f"{len(shares)} shares for {len(corpora)} corpora", where="corpus.mix.proportion.shares")
        sizes = [_sizes(corpus, tokenizer) for corpus in corpora]
        for corpus, of in zip(corpora, sizes, strict=True):
            if not of.sum():
                raise DataError("a corpus to mix holds no text", where=str(corpus.path))
        shares = shares / shares.sum()
        most = min(float(of.sum()) / share for of, share in zip(sizes, shares, strict=True))
        if self.total is not None and self.total > most:
            unit = "tokens" if tokenizer else "bytes of text"
            raise UserError(f"these shares allow {most:,.0f} {unit}, not {self.total:,.0f}", where="corpus.mix.proportion.total")
        total = self.total or most
        kept = [
            _drawn(of, share * total, here.generator("mix", number)) for number, (of, share) in enumerate(zip(sizes, shares, strict=True))
        ]
        here.charge(documents=sum(len(of) for of in sizes))
        taken = [int(of[mask].sum()) for of, mask in zip(sizes, kept, strict=True)]
        here.says = " + ".join(f"{size / sum(taken):.1%}" for size in taken)
        return Corpus.write(here.output("corpus"), _frames(corpora, kept))


def _sizes(corpus: Corpus, tokenizer: Tokenizer | None) -> numpy.ndarray:
    """UTF-8 bytes of each document, or its tokens and the mark behind them; nothing of a document without text."""
    import numpy

    frames = corpus.frames(["id", "text"])
    if tokenizer is None:
        found = [frame["text"].str.len_bytes().to_numpy() for frame in frames]
    else:
        from tokenizers import Tokenizer as Fast

        from paredown.engines.byte_pairs import encoded

        fast = Fast.from_str(tokenizer.file("tokenizer.json").read_text())
        fast.encode_special_tokens = True
        found = [numpy.array([len(ids) + 1 if len(ids) else 0 for ids in encoded(frame["text"], fast)]) for frame in frames]
    return numpy.concatenate(found) if found else numpy.empty(0, dtype=numpy.uint32)


def _drawn(sizes: numpy.ndarray, wanted: float, generator: numpy.random.Generator) -> numpy.ndarray:
    """Documents in random order until their bytes come nearest to what is wanted, as a mask."""
    import numpy

    order = generator.permutation(len(sizes))
    total = numpy.concatenate([[0], numpy.cumsum(sizes[order], dtype=numpy.int64)])
    mask = numpy.zeros(len(sizes), dtype=bool)
    mask[order[: max(1, int(numpy.abs(total - wanted).argmin()))]] = True
    return mask


def _frames(corpora: tuple[Corpus, ...], kept: list[numpy.ndarray]) -> Iterator[polars.DataFrame]:
    """Shards with the columns that all corpora have; ids are told apart by their corpus."""
    import polars as pl

    schemas = [corpus.frame(corpus.shards()[0]["name"]).schema for corpus in corpora]
    columns = [name for name, kind in schemas[0].items() if all(other.get(name) == kind for other in schemas)]
    for number, (corpus, mask) in enumerate(zip(corpora, kept, strict=True)):
        begin = 0
        for frame in corpus.frames(columns):
            rows = mask[begin : begin + frame.height]
            begin += frame.height
            yield frame.filter(rows).with_columns(
                pl.format("{}:{}", pl.lit(number), "id").alias("id"), pl.lit(number, pl.Int64).alias("part")
            )
