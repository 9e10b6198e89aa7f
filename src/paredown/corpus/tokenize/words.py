"""Words of tables: learn a vocabulary from column names and cells."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.tables import Worded
from paredown.artifacts.tokens import Tokenizer
from paredown.core.context import context
from paredown.core.strategy import Strategy


class Words(Strategy):
    """Learn the words of tables from their column names and cells, so that a model can read them; or take words that are known.

    The rows stay as they are; beside them lies the tokenizer. What names of other tables hold (`others`: tables that the model will
    meet later, whose names are known but whose rows are not read for anything else) joins the vocabulary. A table that a trained model
    shall read must be given that model's `tokenizer`: words that it does not know are cut into pieces, or all become one unknown word.

    Source: Wang and Sun 2022, arXiv 2205.09328, section 2.2, which takes the vocabulary of BERT; here it is learnt from the tables.
    Costs: one pass over the names and the cells of words.
    Control: none (arms share it).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-tokens", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (40,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    vocab_size: Annotated[int, Field(ge=3)] = 30_522  # words and pieces at most, two marks among them
    pieces: bool = True  # cut words that are not known into pieces (WordPiece); otherwise they all are one unknown word

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import estimates

        return {"vocab_size": float(min(self.vocab_size, 1000)), **estimates.rows(inputs.get("examples"))}

    def __call__(
        self, examples: Examples, held_out: Examples | None = None, others: tuple[Examples, ...] = (), tokenizer: Tokenizer | Model | None = None
    ) -> Worded:  # fmt: skip
        """
        Raises:
            UserError: the examples are no table, or the model that is given has no tokenizer.
            DataError: there is no word.
        """
        from paredown.engines import words

        here = context()
        text = words.of(tokenizer) if tokenizer is not None else words.learn([examples, *others], self.vocab_size, self.pieces)
        train = words.worded(examples, text, here.output("train"))
        held = words.worded(held_out, text, here.output("held_out")) if held_out is not None else None
        here.facts["vocabulary"] = train.vocab_size
        here.facts["unknown_words"] = words.unknown([examples, *([held_out] if held_out is not None else []), *others], text)
        here.charge(documents=examples.rows)
        folder = here.output("tokenizer")
        (folder / "tokenizer.json").write_text(text)
        return Worded(train, held, Tokenizer(folder))
