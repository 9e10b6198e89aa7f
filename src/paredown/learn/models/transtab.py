"""A transformer for rows of tables, whatever their columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from paredown.core.errors import UserError
from paredown.core.strategy import Count, Share
from paredown.engines.parts import Architecture

if TYPE_CHECKING:
    from torch import nn


class Transtab(Architecture):
    """A gated transformer over the words of column names and cells, so that one model reads any table.

    A number is one vector: the mean of its column's name times the scaled value, plus a shared bias; of a category name and value are
    words, of a flag that is set its name. There are no positions: the order of columns and words does not matter. Labels are scored
    from the first token; with `classes: 0` the rows are projected instead, for pre-training by contrast.

    Source: Wang and Sun 2022, arXiv 2205.09328, sections 2.2 and 2.3; gates and initial values as in the reference code.
    Costs: 8 D^2 + 4 D I FLOPs a token and layer (D the width, I the inner one) and attention over all cells of a row.
    Control: learn.models.mlp on the columns that all tables share (corpus.tokenize.features); measure.boosting and measure.logistic.
    Not for: one table with fixed columns; measure.boosting is cheaper there and often better.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-weights", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (40,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    vocabulary: Count | None = None  # words that it knows; by default as many as the tokenizer of the tables
    hidden_size: Count = 128  # width of a token
    layers: Count = 2  # blocks
    heads: Count = 8  # attention heads of a block
    intermediate_size: Count = 256  # width between the linear layers of a block
    classes: Annotated[int, Field(ge=0)] = 2  # labels, numbered from 0; 0 projects the rows instead
    dropout: Share = 0.0  # share of the activations that training leaves out
    bind: Literal["bag", "cell"] = "bag"  # cell adds its column's name to each word of a category (ours): which value is whose is not lost
    missing: Literal["zero", "drop"] = "zero"  # a number that is missing counts as scaled 0, or its token is left out (ours)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size must be a multiple of heads: {self.hidden_size} is none of {self.heads}")
        if self.classes == 1:
            raise ValueError("one label leaves nothing to tell apart: classes must be 0, or 2 and more")
        return self

    def settled(self, vocab_size: int) -> Self:
        return self.model_copy(update={"vocabulary": self._words(vocab_size)})

    def parameters(self, vocab_size: int) -> int:
        d, i = self.hidden_size, self.intermediate_size
        block = 4 * (d * d + d) + d + (d * i + i) + (i * d + d) + 4 * d
        scores = 1 if self.classes == 2 else self.classes
        head = 2 * d + d * scores + scores if self.classes else d * d
        return (self.vocabulary or vocab_size) * d + 2 * d + 2 * d + d * d + self.layers * block + head

    def build(self, vocab_size: int, end_of_text: int) -> nn.Module:
        """
        Raises:
            UserError: neither the tables nor a knob say how many words there are.
        """
        from paredown.engines.table_networks import TableTransformer

        return TableTransformer(
            self._words(vocab_size), self.hidden_size, self.layers, self.heads, self.intermediate_size, self.classes, self.dropout,
            self.bind == "cell", self.missing == "drop",
        )  # fmt: skip

    def _words(self, vocab_size: int) -> int:
        if not (self.vocabulary or vocab_size):
            raise UserError(
                "learn.models.transtab does not know how many words there are",
                where="model",
                todo="give tables that went through corpus.tokenize.words, or set vocabulary",
            )
        return self.vocabulary or vocab_size
