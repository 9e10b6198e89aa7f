"""Generated sums of several kinds, for experiments in which the useful kind of data must be known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.corpus import Corpus
from paredown.core.context import context
from paredown.core.strategy import Count, Strategy

if TYPE_CHECKING:
    import numpy

Kind = Literal["single", "carries", "product", "two_step", "letters"]


def problem(kind: str, generator: numpy.random.Generator) -> tuple[str, str]:
    """(what is asked, the answer): sums of one digit, sums of two digits that carry, products, a * b + c, or letters without sense."""
    a, b, c = (int(n) for n in generator.integers(0, 10, 3))
    if kind == "single":
        return f"{a}+{b}=", f"{a + b}"
    if kind == "carries":
        tens, more = (int(n) for n in generator.integers(1, 10, 2))
        low = int(generator.integers(10 - b, 10)) if b else 0
        first, second = 10 * tens + low, 10 * more + b
        return f"{first}+{second}=", f"{first + second}"
    if kind == "product":
        return f"{a}*{b}=", f"{a * b}"
    if kind == "two_step":
        return f"{a}*{b}+{c}=", f"{a * b + c}"
    letters = "".join(chr(97 + int(n)) for n in generator.integers(0, 26, 6))
    return f"{letters[:4]}=", letters[4:]


class Arithmetic(Strategy):
    """Make documents of sums, each of one kind, the kinds in given shares.

    A document has 1 to 2 `lines` - 1 lines, such as `7*8+5=61`; with `lines: 1` it is one question, and the column `question` holds what
    stands before the answer, so that answers alone can be asked for (`corpus.tokenize.encode` with `given: question`). Products
    a * b + c whose a + 2 b + 3 c leaves 0 when divided by 7 come from `held_out: true` only, and no others do.

    Source: none (ours).
    Costs: nothing to speak of.
    Control: none (it is an input).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (86,)
    seeded: ClassVar[bool] = True

    documents: Count = 1000  # how many
    kinds: Annotated[dict[Kind, Annotated[float, Field(gt=0)]], Field(min_length=1)] = {
        "single": 1,
        "carries": 1,
        "product": 1,
        "two_step": 1,
        "letters": 1,
    }  # relative shares
    lines: Count = 8  # problems of a document, on average
    held_out: bool = False  # the two-step problems that the others never hold

    def __call__(self) -> Corpus:
        """Columns `id`, `text`, `kind`, and with one line a document `question`."""
        import numpy
        import polars as pl

        generator = context().generator("arithmetic", self.held_out)
        shares = numpy.array(list(self.kinds.values()))
        drawn = generator.choice(len(shares), size=self.documents, p=shares / shares.sum())
        rows = []
        for number, kind in enumerate(list(self.kinds)[place] for place in drawn):
            asked = [self._problem(kind, generator) for _ in range(generator.integers(1, 2 * self.lines))]
            one = {"question": asked[0][0]} if self.lines == 1 else {}
            text = asked[0][1] if self.lines == 1 else "\n".join(question + answer for question, answer in asked)
            rows.append({"id": str(number), "text": text, "kind": kind, **one})
        context().charge(documents=len(rows))
        return Corpus.write(context().output("corpus"), [pl.DataFrame(rows)])

    def _problem(self, kind: str, generator: numpy.random.Generator) -> tuple[str, str]:
        while True:
            question, answer = problem(kind, generator)
            if kind != "two_step":
                return question, answer
            a, b, c = (int(question[place]) for place in (0, 2, 4))
            if ((a + 2 * b + 3 * c) % 7 == 0) == self.held_out:
                return question, answer
