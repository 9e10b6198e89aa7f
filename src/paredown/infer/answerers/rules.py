"""What rephrases passages about towns by rules, as a model would that was asked to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from paredown.core.strategy import Count
from paredown.engines.parts import Answerer

if TYPE_CHECKING:
    from paredown.engines.generator import Answer, Backend, Question, Sampling, Tray

LETTERS_A_TOKEN = 4  # of prompts and answers, to say how many tokens a model would have read and written


class Rules(Answerer):
    """Read the facts of a messy passage by rules and say them anew, in plain sentences or, where questions are asked for, as questions and answers.

    It sees what it is asked and nothing else. Words with one slip become the only word of its dictionary that is so near; markup and what
    tells no fact is left out. The answer is empty where a passage tells no fact, or one in a way that no rule understands. It knows the words of
    `corpus.read.facts`, but no fact. So it can lose facts and cannot add any, which of a model that rephrases nobody knows.

    Source: none (ours; in the place of the language model of Maini et al. 2024, arXiv 2401.16380).
    Costs: some 100 microseconds a passage; with `as_weights` two FLOPs for each token and weight of the model that it stands for.
    Control: none (it answers, and saves nothing)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-tokens", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (28,)
    extras: ClassVar[tuple[str, ...]] = ("text",)

    names: Count = 400  # names of towns in its dictionary, the language's first ones
    as_weights: Annotated[float, Field(ge=0)] = 0  # weights of a model whose reading and writing is charged, as if it had answered

    def open(self) -> Backend:
        return _Opened(self)


class _Opened:
    currency = ""

    def __init__(self, part: Rules) -> None:
        from paredown.engines.fact_rules import Reader

        self.part = part
        self.reader = Reader(part.names)
        self.identity = f"rules 1 {part.names} {part.as_weights:g}"

    def ask(self, questions: Sequence[Question], sampling: Sampling, tray: Tray) -> None:
        tray.put([(number, self._answer(question, sampling)) for number, question in enumerate(questions)])

    def _answer(self, question: Question, sampling: Sampling) -> Answer:
        """An answer to an instruction with a passage below it, in the last message."""
        from random import Random

        from paredown.engines.generator import Answer, plain_text, seed_of

        whole = plain_text(question.prompt)
        instruction, _, passage = whole.partition("\n\n")
        draw = Random(seed_of(question, sampling))
        facts = self.reader.read(passage) or []
        text = (self.reader.questions if "question" in instruction.lower() else self.reader.sentences)(facts, draw)
        read, written = len(whole) // LETTERS_A_TOKEN, len(text) // LETTERS_A_TOKEN
        flops = 2 * self.part.as_weights * (read + written)
        return Answer(text=text, prompt_tokens=read, completion_tokens=written, flops=flops)

    def price(self, answer: Answer) -> float | None:
        return None

    def close(self) -> None: ...
