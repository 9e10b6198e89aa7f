"""Data chosen anew at every stage of a training by what the model has most use for then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.tokens import Tokens
from paredown.core.errors import UserError
from paredown.core.strategy import Count, Positive
from paredown.engines.parts import Draw, Rows, Sampler

if TYPE_CHECKING:
    import numpy

    from paredown.engines.probing import Probes
    from paredown.engines.training import State

    Array = numpy.ndarray[Any, Any]

NAME = "learn.samplers.mates"
AT_ONCE = 64  # rows of the reference in one forward pass


def preferred(scores: Array, count: int, noise: str, tau: float, generator: numpy.random.Generator) -> Array:
    """Places of the `count` rows to keep, by scores of which higher is better (standard units).

    gumbel_topk draws without replacement, proportionally to exp(score / tau); reference is the published code: Gumbel noise on
    the predicted loss, of which the smallest are kept.
    """
    import numpy

    from paredown.engines.regression import gumbel_top_k

    if noise == "gumbel_topk":
        return gumbel_top_k(scores / tau, count, generator)
    noisy = scores / tau - generator.gumbel(size=len(scores)) if noise == "reference" else scores
    return numpy.argsort(-noisy, kind="stable")[:count]


class Mates(Sampler):
    """Choose the rows of every stage by their predicted influence on a reference loss at that stage.

    The rows are divided into as many windows as there are stages. The first stage learns from random rows of its window.
    Before each later stage some rows of its window are probed: one optimizer step on the row alone, then the loss on the
    reference, against a step on nothing. A ridge regression learns to predict that gain, scores the whole window, and
    the best share, with noise, is the stage's data. Probing and predicting count into the training's FLOPs.

    Source: Yu et al. 2024, arXiv 2406.06046, section 3 and algorithm 1.
    Costs: a stage takes probes times (a step on one row and the reference loss), and with own_encoder a forward pass over its window.
    Control: learn.samplers.shuffled
    Not for: short trainings whose probes would cost more than they do; look at the arm that trains longer instead.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-data", "speedup-universal", "needs-data", "needs-gradients")
    systems: ClassVar[tuple[int, ...]] = (86,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    reference: Tokens  # documents whose loss should fall; measure the result on others
    stages: Annotated[int, Field(ge=2)] = 5  # equal shares of the budget; the first learns from random rows
    keep: Annotated[float, Field(gt=0, le=1)] = 0.2  # share of a window that its stage learns from
    probes: Annotated[int, Field(ge=20)] = 1000  # rows that are tried before a stage; a tenth of them judge the prediction
    reference_rows: Count = 1024  # rows of the reference at most
    predictor: Literal["own_encoder", "hashed_ngrams"] = "own_encoder"  # ridge on the model's own mean hidden state, or on 1- and 2-grams
    buckets: Count = 4096  # of hashed_ngrams
    refit: Literal["each_stage", "once"] = "each_stage"  # once: the first prediction chooses for all later stages, blind to the model
    noise: Literal["gumbel_topk", "reference", "none"] = "gumbel_topk"  # chance in the choice; reference: as published code has it
    tau: Positive = 1.0  # temperature of the choice; 0.1 is nearly greedy, 10 nearly random
    shuffled_influence: bool = False  # a control: measured influences are dealt out at random, so the choice must equal chance
    recheck: Annotated[int, Field(ge=0)] = 0  # rows of the kept and of the dropped that are probed again, to see what the choice gained

    def start(self, state: State) -> None:
        """
        Raises:
            UserError: several processes, data that are no packed tokens, or too few rows for the stages.
        """
        if state.setup.parallel != "none":
            raise UserError("mates probes in one process", where="learn.train.parallel", todo="set parallel: none")
        rows = getattr(state.source, "rows", 0)
        if state.source is None or not hasattr(state.source, "length"):
            raise UserError("mates chooses among rows of tokens", where="learn.train.sampler", todo="take learn.samplers.rs2 for examples")
        if rows // self.stages < self.probes:
            raise UserError(
                f"a window of {rows:,} / {self.stages} rows is smaller than {self.probes:,} probes",
                where="learn.train.sampler",
                todo="fewer stages or probes, shorter rows, or more data",
            )
        if NAME not in state.kept:
            self._keep(state, 0, self._window(state, 0), None)

    def step(self, state: State) -> None:
        stage = int(state.spent() * self.stages + 1e-9)
        if int(state.kept[NAME]["stage"]) < stage < self.stages:
            self._select(state, stage)

    def choose(self, rows: Rows, draw: Draw) -> Array:
        """The rows that the stage keeps, in a new order each time that all of them were seen."""
        from paredown.engines.orders import shuffled

        pool, first, stage = (draw.kept[name] for name in ("rows", "first", "stage"))
        order = shuffled(len(pool), draw.seed + int(stage), draw.index - int(first), draw.size)
        return pool.numpy()[order]

    def _window(self, state: State, stage: int) -> Array:
        """Rows that belong to a stage; the windows of all stages are disjoint and cover all rows."""
        import numpy

        from paredown.engines.orders import permuted

        rows = state.source.rows  # type: ignore[union-attr]
        begin, end = (rows * number // self.stages for number in (stage, stage + 1))
        return permuted(numpy.arange(begin, end), rows, state.seed)

    def _keep(self, state: State, stage: int, window: Array, scores: Array | None) -> Array:
        """Note the rows of a stage; random ones where there are no scores. Gives their places in the window."""
        import torch

        from paredown.engines.batches import randomness

        generator, count = randomness(state.seed + 1, stage), max(1, int(len(window) * self.keep))
        if scores is None:
            places = generator.permutation(len(window))[:count]
        else:
            places = preferred(scores, count, self.noise, self.tau, generator)
        state.kept[NAME] = state.kept.get(NAME, {}) | {
            "rows": torch.from_numpy(window[places]), "first": torch.tensor(state.step), "stage": torch.tensor(stage),
        }  # fmt: skip
        return places

    def _select(self, state: State, stage: int) -> None:
        import numpy
        import torch

        from paredown.engines.batches import evaluation
        from paredown.engines.probing import Probes

        source: Any = state.source
        reference = evaluation(state.setup.objective.rows(self.reference, source.length), AT_ONCE, self.reference_rows)
        probes, window = Probes(state, reference), self._window(state, stage)
        blind = state.kept[NAME].get("scores")
        if blind is None:
            predict = self._fitted(state, stage, window, probes)
            scores = predict(window)
            if self.refit == "once":
                later = [scores, *(predict(self._window(state, number)) for number in range(stage + 1, self.stages))]
                state.kept[NAME] |= {"scores": torch.from_numpy(numpy.concatenate(later)), "from": torch.tensor(stage)}
        else:
            sizes = [len(self._window(state, number)) for number in range(int(state.kept[NAME]["from"]), stage)]
            scores = blind.numpy()[sum(sizes) : sum(sizes) + len(window)]
        places = self._keep(state, stage, window, scores)
        if self.recheck:
            self._look_again(state, stage, window, places, probes)
        state.flops += probes.flops
        state.measured["selection_flops"] = state.measured.get("selection_flops", 0.0) + probes.flops

    def _fitted(self, state: State, stage: int, window: Array, probes: Probes) -> Any:
        """A function from rows to predicted influence in standard units, learned from the window's probes."""
        import numpy
        from scipy.stats import spearmanr

        from paredown.engines.batches import randomness
        from paredown.engines.probing import influences
        from paredown.engines.regression import fit_ridge

        generator = randomness(state.seed + 2, stage)
        tried = generator.permutation(window)[: self.probes]
        gains = influences(state, probes, tried, f"stage {stage}")
        if self.shuffled_influence:
            gains = generator.permutation(gains)
        learned = slice(0, len(tried) - len(tried) // 10)
        judged = slice(len(tried) - len(tried) // 10, None)
        mean, deviation = float(gains[learned].mean()), float(gains[learned].std()) or 1.0
        features = self._features(state, tried, probes)
        ridge = fit_ridge(features[learned], (gains[learned] - mean) / deviation)
        agreement = float(spearmanr(ridge.predict(features[judged]), gains[judged]).statistic)
        state.measured["influence_spearman"] = agreement if numpy.isfinite(agreement) else 0.0
        return lambda rows: ridge.predict(self._features(state, rows, probes))

    def _features(self, state: State, rows: Array, probes: Probes) -> Array:
        from paredown.engines.probing import mean_hidden
        from paredown.engines.regression import hashed_ngrams

        if self.predictor == "own_encoder":
            return mean_hidden(state, rows, probes)
        source: Any = state.source
        return hashed_ngrams((source.fill(rows[place : place + 1])["ids"][0] for place in range(len(rows))), self.buckets)

    def _look_again(self, state: State, stage: int, window: Array, places: Array, probes: Probes) -> None:
        """Mean influence of some kept and some dropped rows, for the curves."""
        import numpy

        from paredown.engines.batches import randomness
        from paredown.engines.probing import influences

        generator = randomness(state.seed + 3, stage)
        for name, some in (("kept", places), ("dropped", numpy.setdiff1d(numpy.arange(len(window)), places))):
            rows = window[generator.permutation(some)[: self.recheck]]
            if len(rows):
                state.measured[f"influence_{name}"] = float(influences(state, probes, rows, f"stage {stage} {name}").mean())
