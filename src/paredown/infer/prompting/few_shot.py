"""A question after some solved ones, with or without a chain of thought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from paredown.core.catalog import build
from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.core.strategy import Count
from paredown.engines.parts import Embedder, Prompting

if TYPE_CHECKING:
    import numpy

    from paredown.engines.choosing import Ask, Chooser, Item, Order

EXPLAIN = "Explain step by step, then write the letter of the right option as Answer: [X]."


class FewShot(Prompting):
    """Show solved questions before the one that is asked: none, random ones, or those that are most like it.

    Nearest ones stand with the most similar last. With `chains` the solved questions have chains of thought that the model wrote
    itself for shuffled options, kept only where they came to the right answer; a chain belongs to the order of options that it was written for.

    Source: Nori et al. 2023, arXiv 2311.16452, sections 4.1 (dynamic few-shot) and 4.2 (self-generated chain of thought).
    Costs: tokens of the solved questions with every question; `chains` of chain_tries answers for each known item once.
    Control: itself with `examples: 0`
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-tokens", "speedup-none", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (89,)

    examples: Annotated[int, Field(ge=0)] = 5  # solved questions that are shown
    choose: Literal["nearest", "random"] = "nearest"  # which ones
    embedder: Embedder = Field(default_factory=lambda: build("infer.embedders.tfidf"))  # in whose space they are near
    chains: bool = False  # whether examples and answer reason before they answer
    instruction: Annotated[str, Field(min_length=1)] = EXPLAIN  # that asks for a chain
    chain_tries: Count = 5  # orders of options for which a chain is written
    balance: bool = False  # change options over so that right letters are equally frequent; a chain is taken that suits, where one was kept
    scoring: Literal["generate", "rank"] = "generate"  # read a written answer, or take the likeliest letter
    temperature: Annotated[float, Field(ge=0)] = 0.0  # of written answers; above 0 every round is another draw
    max_tokens: Count = 500  # of a written answer
    retries: Annotated[int, Field(ge=0)] = 2  # more tries where no answer could be read, each a little warmer and longer

    @model_validator(mode="after")
    def _chains_are_written(self) -> Self:
        if self.chains and self.scoring == "rank":
            raise ValueError("a chain is written, so its answer cannot be ranked: set scoring: generate, or chains: false")
        return self

    def open(self, known: Sequence[Item], ask: Ask, generator: numpy.random.Generator) -> Chooser:
        """
        Raises:
            UserError: there are fewer known items than are to be shown.
            DataError: no chain came to a right answer.
        """
        if len(known) < self.examples:
            raise UserError(
                f"{self.examples} examples are to be shown, but {len(known)} items are known",
                where="infer.prompting.few_shot.examples",
                todo="give solved ones (known: $step), or examples: 0",
            )
        return _Opened(self, known, ask, generator)


class _Opened:
    def __init__(self, part: FewShot, known: Sequence[Item], ask: Ask, generator: numpy.random.Generator) -> None:
        self.part, self.ask = part, ask
        self.seed = int(generator.integers(2**62))
        self.chains: dict[str, list[tuple[Order, str]]] = {}
        self.nearest: dict[str, list[int]] = {}  # places of known items by question, nearest first
        self.known = list(known) if part.examples else []
        if part.chains and part.examples:
            self._write_chains(generator)
            self.known = [item for item in self.known if self.chains[item.key]]
            if not self.known:
                raise DataError(
                    "no chain of thought came to a right answer, so there is none to show", where="infer.prompting.few_shot.chains"
                )

    def choose(self, items: Sequence[Item], orders: Sequence[Order], number: int) -> list[int | None]:
        from paredown.engines import choosing
        from paredown.engines.generator import Question, Sampling

        part = self.part
        prompts = [
            self._prompt(item, order, near, number) for item, order, near in zip(items, orders, self._near(items, number), strict=True)
        ]
        if part.scoring == "rank":
            asked = [Question(text, tuple(choosing.LETTERS[: len(order)])) for text, order in zip(prompts, orders, strict=True)]
            return [order[int(_argmax(answer.logprobs))] for answer, order in zip(self.ask(asked, Sampling(), items), orders, strict=True)]
        found: list[int | None] = [None] * len(items)
        for tried in range(part.retries + 1):
            open_ = [place for place, choice in enumerate(found) if choice is None]
            if not open_:
                break
            warmth = max(part.temperature, 0.05 * tried)
            sampling = Sampling(part.max_tokens + 200 * tried, warmth, stop=("\nQuestion:",), seed=self.seed % 2**31)
            asked = [Question(prompts[place], sample=number) for place in open_]
            answers = self.ask(asked, sampling, [items[place] for place in open_])
            for place, answer in zip(open_, answers, strict=True):
                found[place] = choosing.read(answer.text, orders[place])
        return found

    def _near(self, items: Sequence[Item], number: int) -> list[list[Item]]:
        """The examples of each item, most similar last; never the item itself."""
        from paredown.engines.embedder import opened
        from paredown.engines.search import nearest

        part, known = self.part, self.known
        count = min(part.examples, len(known))
        if not count:
            return [[] for _ in items]
        if part.choose == "random":
            ranked = [self._draw("shown", item.key, number).permutation(len(known)).tolist() for item in items]
        else:
            new = list(dict.fromkeys(item.question for item in items if item.question not in self.nearest))
            if new:  # once for all rounds
                texts = [item.question for item in known]
                with opened(part.embedder, texts) as embed:
                    more = max(sum(question in text for text in texts) for question in new)  # neighbours that hold the question itself
                    places = nearest(embed(texts), embed(new), count + more)[0]
                self.nearest |= dict(zip(new, places.tolist(), strict=True))
            ranked = [self.nearest[item.question] for item in items]
        found = []
        for item, row in zip(items, ranked, strict=True):
            others = [known[place] for place in row if item.question not in known[place].question]  # its own solution is no example
            found.append(others[:count][::-1])
        return found

    def _prompt(self, item: Item, order: Order, near: Sequence[Item], number: int) -> str:
        from paredown.engines import choosing

        draw = self._draw("balance", item.key, number)
        targets = (
            choosing.balanced(len(near), min((len(example.options) for example in near), default=1), draw) if self.part.balance else []
        )
        pieces = []
        for place, example in enumerate(near):
            shown = choosing.swapped(example, targets[place]) if targets else choosing.same(example)
            reasons = ""
            if self.part.chains:  # a chain names letters, so it is shown with the order that it was written for
                own = self.chains[example.key]
                own = [chain for chain in own if targets and chain[0][targets[place]] == example.gold] or own
                shown, reasons = own[int(draw.integers(len(own)))]
            pieces.append(choosing.solved(example, shown, reasons, self.part.chains))
        return choosing.prompt(pieces, item, order, self.part.instruction if self.part.chains else "")

    def _write_chains(self, generator: numpy.random.Generator) -> None:
        """Chains of the known items that end in the right answer, with the orders of options that they are about."""
        from paredown.engines import choosing
        from paredown.engines.generator import Question, Sampling

        orders = {item.key: choosing.shuffled_orders(item, self.part.chain_tries, generator) for item in self.known}
        asked = [(item, order) for item in self.known for order in orders[item.key]]
        prompts = [choosing.prompt([], item, order, self.part.instruction) for item, order in asked]
        answers = self.ask([Question(text) for text in prompts], Sampling(self.part.max_tokens, stop=("\nQuestion:",)))
        self.chains = {item.key: [] for item in self.known}
        for (item, order), answer in zip(asked, answers, strict=True):
            if choosing.read(answer.text, order) == item.gold:
                self.chains[item.key].append((order, f"{answer.text.rsplit('Answer:', 1)[0].strip()}\n"))
        context().facts["chains_kept"] = sum(map(len, self.chains.values())) / max(1, len(asked))

    def _draw(self, *salt: object) -> numpy.random.Generator:
        import hashlib

        import numpy

        return numpy.random.default_rng(int.from_bytes(hashlib.sha256(repr((self.seed, *salt)).encode()).digest()[:8], "little"))


def _argmax(values: Any) -> int:
    return max(range(len(values)), key=lambda place: values[place])
