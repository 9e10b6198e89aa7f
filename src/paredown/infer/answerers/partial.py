"""What answers sums of its own making with a known liking and a known noise."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from paredown.engines.parts import Answerer

if TYPE_CHECKING:
    from paredown.engines.generator import Answer, Backend, Question, Sampling, Tray

OPTION = re.compile(r"([A-Z])\. (.*)")
TERMS = re.compile(r"\d+(?:\*\d+)*(?:\+\d+(?:\*\d+)*)*")


def total(terms: str) -> int:
    """Products and sums of whole numbers, such as 7*8+5."""
    return sum(math.prod(int(factor) for factor in term.split("*")) for term in terms.split("+"))


def uniform(*salt: object) -> float:
    """A number between 0 and 1 that depends on the salt alone."""
    digest = hashlib.blake2b(repr(salt).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") + 0.5) / 2**64


def gumbel(*salt: object) -> float:
    return -math.log(-math.log(uniform(*salt)))


def normal(*salt: object) -> float:
    return math.sqrt(-2 * math.log(uniform(1, *salt))) * math.cos(2 * math.pi * uniform(2, *salt))


class Partial(Answerer):
    """Choose among options by a usefulness that is known: which one is right, what each question makes of each option, a place, and chance.

    The right option is the one that is the question's sum, such as 61 for `7*8+5`. An option's usefulness is a draw that stays with
    question and option (Gumbel), for the right one 1 plus a draw that stays with the question (normal), `first` for standing in the first
    place, and `noise` times a draw of each call (Gumbel). So what shuffling and what voting can gain is known beforehand.

    Source: none (ours); usefulness with Gumbel noise as in McFadden 1974, Conditional logit analysis.
    Costs: nothing to speak of.
    Control: none (it answers, and saves nothing)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-tokens", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (89,)

    first: float = 1.0  # liking for the option that stands first
    noise: Annotated[float, Field(ge=0)] = 0.5  # of every call
    skill: float = 1.0  # mean usefulness of being right

    def open(self) -> Backend:
        return _Opened(self)


class _Opened:
    currency = ""

    def __init__(self, part: Partial) -> None:
        self.part = part
        self.identity = f"partial {part.first} {part.noise} {part.skill}"

    def ask(self, questions: Sequence[Question], sampling: Sampling, tray: Tray) -> None:
        from paredown.engines.generator import Answer

        for number, question in enumerate(questions):
            letter = self._letter(str(question.prompt), (question.sample, sampling.seed))
            tray.put([(number, Answer(text=f" [{letter}]", prompt_tokens=len(str(question.prompt)) // 4, completion_tokens=1))])

    def _letter(self, prompt: str, call: object) -> str:
        """The most useful of the options of the last question of a prompt."""
        question, *lines = prompt.rsplit("Question: ", 1)[-1].split("\n")
        options = {match[1]: match[2] for line in lines if (match := OPTION.fullmatch(line))}
        right = str(total(question)) if TERMS.fullmatch(question) else ""
        useful = {}
        for place, (letter, option) in enumerate(options.items()):
            value = gumbel("option", question, option) + self.part.first * (place == 0)
            value += (self.part.skill + normal("stays", question)) if option == right else 0.0
            useful[letter] = value + (self.part.noise * gumbel("call", prompt, option, call) if self.part.noise else 0.0)
        return max(useful, key=lambda letter: useful[letter], default="A")

    def price(self, answer: Answer) -> float | None:
        return None

    def close(self) -> None: ...
