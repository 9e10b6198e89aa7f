from __future__ import annotations

import json

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.scores import Score, Scores
from paredown.core.context import context
from paredown.core.strategy import Strategy


class Bill(Strategy):
    """Say what each input was made from.

    Source: none (ours).
    Costs: nothing.
    Control: none (a measurement)
    """

    reads_costs = True
    metrics = ("steps",)

    def __call__(self, corpus: Corpus, others: tuple[Corpus, ...]) -> Scores:
        here = context()
        made = here.made_from
        assert all(record.cost["seconds"] > 0 for records in made.values() for record in records)
        folder = here.output("scores")
        found = Scores.write(folder, [Score(subject="bill", metric="steps", value=float(sum(map(len, made.values()))), unit="documents")])
        (folder / "bill.json").write_text(json.dumps({name: [record.strategy for record in records] for name, records in made.items()}))
        return found
