"""Two ways of asking that vote together, weighted by whether the question is one to think about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from paredown.core.catalog import build
from paredown.core.context import context
from paredown.core.strategy import Count
from paredown.engines.parts import Prompting

if TYPE_CHECKING:
    import numpy

    from paredown.engines.choosing import Ask, Chooser, Item, Order

SCREENING = "# Question\n{question}\n\n# Task\nDoes answering the question above require a scratch-pad?\nA. Yes\nB. No\nAnswer:"


class Portfolio(Prompting):
    """Let answers with a chain of thought and direct answers vote together, chains for more where the model says that it needs a scratch-pad.

    Each question is screened with one short call: after a yes a chain's vote counts `weight` times, after a no 1 / `weight`, and
    once where the answer could not be read. A direct answer counts once. Of equals that option wins which was named first, by a chain if by any.

    Source: Medprompt+, microsoft/promptbase 2023, README (screening call, weights of 2 and 1/2, ten direct prompts beside Medprompt of Nori et
    al. 2023, arXiv 2311.16452). The number of direct answers is theirs; that they are asked in shuffled orders, too, is assumed.
    Costs: `chain_votes` answers with chains, `direct_votes` direct ones and one screening for each question.
    Control: infer.prompting.ensemble
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-tokens", "speedup-none", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (89,)

    chains: Prompting = Field(default_factory=lambda: build({"use": "infer.prompting.few_shot", "chains": True}))  # asked to reason
    direct: Prompting = Field(default_factory=lambda: build("infer.prompting.few_shot"))  # asked for the letter alone
    chain_votes: Count = 5  # answers of the first kind to each question
    direct_votes: Count = 10  # answers of the second kind
    weight: Annotated[float, Field(ge=1)] = 2.0  # of a chain's vote where a scratch-pad is needed; its inverse where not; 1 screens nothing
    screening: Literal["generate", "rank"] = "generate"  # read a written yes or no, or take the likelier letter
    shuffle: bool = True  # another order of the options for every answer

    def open(self, known: Sequence[Item], ask: Ask, generator: numpy.random.Generator) -> Chooser:
        return _Opened(self, self.chains.open(known, ask, generator), self.direct.open(known, ask, generator), ask, generator)


class _Opened:
    def __init__(self, part: Portfolio, chains: Chooser, direct: Chooser, ask: Ask, generator: numpy.random.Generator) -> None:
        self.part, self.chains, self.direct, self.ask, self.generator = part, chains, direct, ask, generator

    def choose(self, items: Sequence[Item], orders: Sequence[Order], number: int) -> list[int | None]:
        """The options with the most weight."""
        from paredown.engines import choosing

        part, drawing = self.part, self.generator if self.part.shuffle else None
        reasoned = choosing.ballots(self.chains, items, orders, number, part.chain_votes, drawing)
        plain = choosing.ballots(self.direct, items, orders, number, part.direct_votes, drawing)
        found = []
        for first, second, weight in zip(reasoned, plain, self._weights(items), strict=True):
            found.append(choosing.majority([*first, *second], [weight] * len(first) + [1.0] * len(second)))
        return found

    def _weights(self, items: Sequence[Item]) -> list[float]:
        """What a chain's vote counts for each item."""
        from paredown.engines import choosing
        from paredown.engines.generator import Question, Sampling

        part = self.part
        if part.weight == 1:
            return [1.0] * len(items)
        prompts, letters = [SCREENING.format(question=item.question) for item in items], choosing.LETTERS[:2]
        if part.screening == "rank":
            asked = self.ask([Question(prompt, tuple(letters)) for prompt in prompts], Sampling(), items)
            said: list[int | None] = [int(answer.logprobs[1] > answer.logprobs[0]) for answer in asked]
        else:
            written = self.ask([Question(prompt) for prompt in prompts], Sampling(max_tokens=8), items)
            said = [choosing.read(answer.text, (0, 1)) for answer in written]
        context().facts["scratch_pads"] = sum(answer == 0 for answer in said) / max(1, len(said))
        return [1.0 if answer is None else part.weight if answer == 0 else 1 / part.weight for answer in said]
