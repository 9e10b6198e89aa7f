"""Which ways of answering are worth their price: accuracy against tokens, seconds and money."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from paredown.artifacts.scores import Score, Scores
from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.core.strategy import Count, Strategy

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

COSTS = ("tokens", "seconds", "money")


class Frontier(Strategy):
    """Measure how surely each of several ways of answering the same questions lies on the frontier of accuracy and cost.

    A way is on the frontier if no other is as cheap and more accurate, nor cheaper and as accurate. How sure that is, is the share of samples
    of the questions, drawn with replacement and the same for all ways, in which it is there: so a gain that these questions may owe to chance counts
    for as much as it is likely. It speaks of new questions, not of new trainings or draws of what answers; for those compare arms over seeds.

    Source: Nori et al. 2024, arXiv 2411.03590, section 3 (accuracy against cost); paired bootstrap over items as in Koehn 2004, Statistical
    significance tests for machine translation evaluation, section 3.
    Costs: nothing to speak of.
    Control: none (a measurement; the cheapest way is always on the frontier, and a dearer one earns its price only if it is, too)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-tokens", "speedup-none", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (89,)
    seeded: ClassVar[bool] = True
    reads_costs: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("on_tokens", "on_seconds", "on_money")

    names: tuple[str, ...] = ()  # of the ways, in the order of their scores; none: their numbers
    samples: Count = 2000  # of the questions

    def __call__(self, scores: tuple[Scores, ...]) -> Scores:
        """Rows: the share of the ways that are on each frontier, in the mean over the samples; items: the ways, the share of the samples in
        which each is there. NaN without items where a cost is not known of every way: money without prices, seconds outside of a run.

        Facts: what each way reached and took, with its 95% interval over the questions where there is one.

        Raises:
            UserError: there are names, but not one for each of the scores, or money is in several currencies.
            DataError: the scores are not those of `measure.choices`, not finite, or of different numbers of questions.
        """
        import polars as pl

        from paredown.engines.choosing import on_frontier

        here = context()
        if self.names and len(set(self.names)) != len(scores):
            raise UserError(f"{len(set(self.names))} different names for {len(scores)} scores", where="measure.frontier.names")
        accuracy = self._of_items(scores, "accuracy")
        tokens = self._of_items(scores, "prompt_tokens") + self._of_items(scores, "completion_tokens")
        ways, questions = accuracy.shape
        costs = {"tokens": tokens, "seconds": self._seconds(scores, questions), "money": self._money(scores)}
        reached, *means = self._means([accuracy, *(took for took in costs.values() if took is not None)])
        sampled = dict(zip([cost for cost, took in costs.items() if took is not None], means, strict=True))
        names = self.names or tuple(str(number) for number in range(ways))
        table: dict[str, dict[str, Any]] = {name: _described("accuracy", accuracy[n], reached[:, n]) for n, name in enumerate(names)}
        rows, items = [], []
        for cost in COSTS:
            took = costs[cost]
            shares = [math.nan] * ways
            if took is not None:
                shares = on_frontier(sampled[cost], reached).mean(axis=0).tolist()
                on_all = on_frontier(took.mean(axis=1), accuracy.mean(axis=1)).tolist()
                for number, name in enumerate(names):
                    table[name] |= _described(cost, took[number], sampled[cost][:, number])
                    table[name] |= {f"on_{cost}": shares[number], f"on_{cost}_of_all_questions": on_all[number]}
                items += [{"metric": f"on_{cost}", "item": n, "value": share, "weight": 1.0} for n, share in enumerate(shares)]
            value = math.fsum(shares) / ways
            rows.append(Score(subject=" ".join(names), metric=f"on_{cost}", value=value, unit="of the ways", n=ways, better="none"))
        here.facts.update(ways=table, questions=questions)
        here.says = "; ".join(
            f"in {cost}: {', '.join(name for name in names if table[name][f'on_{cost}_of_all_questions'])}"
            for cost in COSTS if costs[cost] is not None
        )  # fmt: skip
        return Scores.write(here.output("scores"), rows, pl.DataFrame(items))

    def _means(self, tables: list[Array]) -> list[Array]:
        """Means (samples, ways) of tables (ways, questions) over samples of the questions, the same for all; some samples at a time."""
        import numpy as np

        questions, generator, found = tables[0].shape[1], context().generator("questions"), []
        at_once = max(1, 2_000_000 // questions)
        for start in range(0, self.samples, at_once):
            many = min(at_once, self.samples - start)
            drawn = generator.multinomial(questions, np.full(questions, 1 / questions), size=many)
            found.append(drawn @ np.concatenate(tables).T / questions)
        return np.split(np.concatenate(found), len(tables), axis=1)

    def _of_items(self, scores: tuple[Scores, ...], metric: str) -> Array:
        """(ways, questions) of one metric."""
        import numpy as np

        found: list[Array] = []
        for number, made in enumerate(scores):
            items = made.items()
            own = None if items is None else items.filter(metric=metric).sort("item")["value"].to_numpy()
            if own is None or not len(own):
                raise DataError(
                    f"scores {number} have no {metric} of each question", where=str(made.path), todo="give those of measure.choices"
                )
            if not np.isfinite(own).all():
                raise DataError(f"the {metric} of a question is no finite number in scores {number}", where=str(made.path))
            if found and len(own) != len(found[0]):
                raise DataError(
                    f"scores {number} are of {len(own):,} questions, the first of {len(found[0]):,}", todo="ask all the same questions"
                )
            found.append(own)
        if not found:
            raise DataError("there are no scores to compare", where="scores")
        return np.stack(found)

    def _seconds(self, scores: tuple[Scores, ...], questions: int) -> Array | None:
        """What all calls of each way took when they were made, one after the other, the same for every question: a clock's, so no part of scores."""
        import numpy as np

        records = {record.folder: record for record in context().made_from.get("scores", [])}
        found = [records.get(made.path.parent) for made in scores]
        took = [math.fsum(row["seconds"] for row in record.facts.get("answers", {}).values()) if record else 0.0 for record in found]
        return np.repeat(np.array(took)[:, None] / questions, questions, axis=1) if all(took) else None

    def _money(self, scores: tuple[Scores, ...]) -> Array | None:
        units = [row.unit for made in scores for row in made.rows() if row.metric == "money"]
        if "unpriced" in units:
            return None
        if len(set(units)) > 1:
            raise UserError(f"the money is in several currencies: {', '.join(sorted(set(units)))}", where="measure.frontier")
        return self._of_items(scores, "money")


def _described(what: str, values: Array, means: Array) -> dict[str, Any]:
    """The mean of all questions, and the 95% interval of the samples' means where they differ."""
    import numpy as np

    low, high = np.percentile(means, [2.5, 97.5]).tolist()
    return {what: float(values.mean()), **({f"{what}_interval": [low, high]} if high > low else {})}
