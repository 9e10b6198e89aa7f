from __future__ import annotations

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.model import Model
from paredown.core.context import context
from paredown.core.strategy import Strategy
from paredown.engines.generator import Question, opened
from paredown.engines.parts import Answerer


class Asked(Strategy):
    """Documents that were answered.

    Source: none (a test).
    Costs: what answers.
    Control: none (a test)
    """

    tags = ("when-before", "what-data", "speedup-none")

    prompts: tuple[str, ...] = ()  # what is asked

    def __call__(self, answerer: Model | Answerer) -> Corpus:
        with opened(answerer) as generator:
            answers = generator.answer([Question(prompt) for prompt in self.prompts])
        return Corpus.from_texts(context().output("corpus"), [answer.text for answer in answers])
