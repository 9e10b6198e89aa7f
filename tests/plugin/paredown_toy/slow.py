from __future__ import annotations

import time

from paredown.artifacts.corpus import Corpus
from paredown.core.context import context
from paredown.core.strategy import Count, Positive, Strategy


class Slow(Strategy):
    """Count slowly, one file of scratch a unit.

    Source: none (ours).
    Costs: time.
    Control: toy.numbers
    """

    units: Count = 20  # pieces of work
    seconds: Positive = 0.01  # of each piece

    def __call__(self, corpus: Corpus) -> Corpus:
        here = context()
        fresh = 0
        for unit in range(self.units):
            note = here.scratch / f"{unit}.txt"
            if not note.exists():
                time.sleep(self.seconds)
                part = here.scratch / "part"
                part.write_text(str(unit))
                part.replace(note)  # whole, or not there
                fresh += 1
            here.progress(unit + 1, self.units, "units")
        here.facts["fresh"] = fresh
        return Corpus.from_texts(here.output("corpus"), [(here.scratch / f"{u}.txt").read_text() for u in range(self.units)])
