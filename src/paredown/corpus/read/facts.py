"""Generated facts about towns, told in messy pages: what a text says, and what can be learnt from it, is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.examples import Examples
from paredown.core.artifact import Bundle
from paredown.core.context import context
from paredown.core.strategy import Count, Share, Strategy

if TYPE_CHECKING:
    from random import Random

    import polars

    from paredown.engines.fact_language import Fact
    from paredown.engines.fact_pages import Manner

SHARD = 20_000  # pages


@dataclass(frozen=True)
class FactWorld(Bundle):
    """Messy pages to learn from, other pages clean and messy to measure on, and a question about every fact as examples and as documents."""

    pages: Corpus
    clean: Corpus
    messy: Corpus
    questions: Examples
    asked: Corpus

    def summary(self) -> str:
        return f"{self.questions.rows:,} facts, {self.pages.summary()}"


class Facts(Strategy):
    """Draw facts (a town's flag, emblem, harvest, craft and tree) and write pages that tell 3 to 6 of them each, as the web does.

    Pages have slips of the pen, markup, lines around the text that say nothing, sentences that share a subject, and some are questions and
    answers. Held-out pages tell the same facts in other combinations. Every fact is asked for in forms that no page has; `statement`
    is the beginning of a sentence of a usual form that only the value is missing from. Towns and values are words of a fixed
    language (`engines/fact_language.py`); which value a town has is drawn evenly.

    Source: none (ours; made for Maini et al. 2024, arXiv 2401.16380).
    Costs: some 100 microseconds a page.
    Control: none (it is an input).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (28,)
    seeded: ClassVar[bool] = True

    names: Annotated[int, Field(ge=3, le=20_000)] = 400  # towns; each has five facts
    documents: Count = 2000  # pages to learn from
    held_out: Count = 300  # pages of each kind to measure on
    typos: Share = 0.08  # of the words of messy pages, each with one slip
    odd: Share = 0.02  # of the facts in forms that few use, and that no rule here reads
    asked: Share = 0.1  # of the pages, that are questions and answers

    def __call__(self) -> FactWorld:
        """Corpora with `facts`, the page's own as `town flag amber`; questions with `question`, `statement`, `answer`, `name`, `noun`;
        documents with `question` and the answer as text."""
        from random import Random

        import polars as pl

        from paredown.engines.fact_language import HELD_OUT_QUESTIONS, RELATIONS, STATEMENTS, Fact, names, said
        from paredown.engines.fact_pages import Manner

        here = context()
        manner = Manner(self.typos, self.odd, self.asked)
        draws = {name: Random(here.generator(name).bytes(32)) for name in ("facts", "pages", "clean", "messy", "questions")}
        towns = [
            [Fact(name, relation.noun, draws["facts"].choice(relation.values)) for relation in RELATIONS] for name in names(self.names)
        ]
        made = {
            name: Corpus.write(here.output(name), self._pages(towns, manner, draws[name], name, count))
            for name, count in (("pages", self.documents), ("clean", self.held_out), ("messy", self.held_out))
        }
        rows = []
        for number, fact in enumerate(fact for town in towns for fact in town):
            form = said(draws["questions"].choice(HELD_OUT_QUESTIONS), fact)
            statement = said(draws["questions"].choice([s for s in STATEMENTS if s.endswith("{value}")]), fact).removesuffix(
                " " + fact.value
            )
            rows.append((f"question-{number}", f"Question: {form}?\nAnswer:", statement, fact.value, fact.name, fact.noun))
        table = pl.DataFrame(rows, schema=["id", "question", "statement", "answer", "name", "noun"], orient="row")
        asked = table.select("id", pl.format(" {}", "answer").alias("text"), "question")
        here.charge(documents=self.documents + 2 * self.held_out)
        return FactWorld(
            **made, questions=Examples.write(here.output("questions"), table), asked=Corpus.write(here.output("asked"), [asked])
        )

    def _pages(self, towns: list[list[Fact]], manner: Manner, draw: Random, kind: str, count: int) -> Iterator[polars.DataFrame]:
        """Shards of pages; a page tells facts of one to three towns."""
        import polars as pl

        from paredown.engines.fact_pages import page

        for first in range(0, count, SHARD):
            rows = []
            for number in range(first, min(count, first + SHARD)):
                told = [fact for town in draw.sample(towns, 3) for fact in draw.sample(town, draw.randint(2, 4))]
                facts = told[: draw.randint(3, 6)]
                text = page(facts, manner, draw, clean=kind == "clean")
                rows.append((f"{kind}-{number}", text, [f"{fact.name} {fact.noun} {fact.value}" for fact in facts]))
            yield pl.DataFrame(rows, schema=["id", "text", "facts"], orient="row")
            context().progress(first + len(rows), count, "pages")
