from __future__ import annotations

import os
import signal

from paredown.artifacts.corpus import Corpus
from paredown.core.context import context
from paredown.core.strategy import Strategy


class Killed(Strategy):
    """Die of SIGKILL on the first try.

    Source: none (ours).
    Costs: a process.
    Control: toy.numbers
    """

    def __call__(self, corpus: Corpus) -> Corpus:
        here = context()
        tried = here.scratch / "tried.txt"
        if not tried.exists():
            tried.write_text("once")
            os.kill(os.getpid(), signal.SIGKILL)
        return Corpus.from_texts(here.output("corpus"), [t for frame in corpus.frames() for t in frame["text"]])
