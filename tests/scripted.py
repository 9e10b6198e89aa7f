"""What answers as a function says; for tests of what asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from paredown.engines.generator import Answer, Question, Sampling
from paredown.engines.parts import Answerer

Script = Callable[[Question, Sampling], str | Sequence[float]]
SCRIPTS: dict[str, Script] = {}
ASKED: list[tuple[Question, Sampling]] = []  # since the last `scripted`


class Scripted(Answerer):
    """Answers with the text that a script gives, or with its log-probabilities of the options."""

    script: str

    def open(self) -> Any:
        return _Opened(self.script)


class _Opened:
    currency = ""

    def __init__(self, script: str) -> None:
        self.script, self.identity = SCRIPTS[script], f"script {script}"

    def ask(self, questions: Sequence[Question], sampling: Sampling, tray: Any) -> None:
        for number, question in enumerate(questions):
            ASKED.append((question, sampling))
            said = self.script(question, sampling)
            words = (
                len(" ".join(c for _, c in question.prompt).split()) if isinstance(question.prompt, tuple) else len(question.prompt.split())
            )
            if isinstance(said, str):
                tray.put([(number, Answer(text=said, prompt_tokens=words, completion_tokens=len(said.split())))])
            else:
                tray.put([(number, Answer(logprobs=tuple(said), option_tokens=(1,) * len(said), prompt_tokens=words))])

    def price(self, answer: Answer) -> float | None:
        return None

    def close(self) -> None: ...


def scripted(script: Script) -> Scripted:
    name = f"script {len(SCRIPTS)}"
    SCRIPTS[name] = script
    ASKED.clear()
    return Scripted(script=name)
