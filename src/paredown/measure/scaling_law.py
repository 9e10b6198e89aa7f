"""How well a scaling law that was fitted to some trainings foresees others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.core.context import context
from paredown.core.errors import DataError
from paredown.core.strategy import Strategy

if TYPE_CHECKING:
    from paredown.engines.scaling_laws import Run


class ScalingLaw(Strategy):
    """Fit L(N, D) = E + A / N^alpha + B / D^beta to trained models, and measure its error on others.

    Each model tells its tokens, its parameters (at the start, at the end, averaged over the tokens) and its held-out loss,
    as `learn.train` noted them; all must have been evaluated on the same held-out tokens.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, section 3.3; averaged parameters as in Jin et al. 2025, arXiv 2501.12486, section 4.
    Costs: some seconds; the trainings that it reads are the cost.
    Control: none (a measurement; `parameters: final` and `parameters: initial` are the laws that `average` has to beat)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-weights", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (27,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    metrics: ClassVar[tuple[str, ...]] = ("error", "fitting_error", "E", "A", "B", "alpha", "beta")

    parameters: Literal["average", "final", "initial"] = "average"  # which count of a training's weights is N
    count: Literal["blocks", "all"] = "blocks"  # weights of linear layers inside the blocks, or all

    def __call__(self, fit: tuple[Model, ...], predict: tuple[Model, ...]) -> Scores:
        """Rows `error` (mean of |foreseen - measured| / measured over `predict`), `fitting_error` (over `fit`), and the law's
        constants; items of the first: the models of `predict` in their order.

        Raises:
            DataError: a model does not tell its training, or those to fit are too few or too alike.
        """
        import polars as pl

        from paredown.engines.scaling_laws import fit as fitted

        runs, others = [self._run(model) for model in fit], [self._run(model) for model in predict]
        if not others:
            raise DataError("there is no model to foresee", where="predict")
        found = fitted(runs, self.parameters, resamples=0)
        foreseen = [float(found.law.loss(run.count(self.parameters), run.tokens)) for run in others]
        errors = [abs(value - run.loss) / run.loss for value, run in zip(foreseen, others, strict=True)]
        context().facts.update(
            foreseen=foreseen, measured=[run.loss for run in others], r2=found.r2, notes=list(found.notes),
            parameters=[run.count(self.parameters) for run in [*runs, *others]],
        )  # fmt: skip
        subject = " ".join(model.identity for model in (*fit, *predict))[:200]
        rows = [
            Score(subject=subject, metric="error", value=sum(errors) / len(errors), unit="of the loss", n=len(errors)),
            Score(subject=subject, metric="fitting_error", value=found.mean_abs_relative_error, unit="of the loss", n=len(runs)),
        ]
        constants = {name: float(getattr(found.law, name)) for name in ("E", "A", "B", "alpha", "beta")}
        rows += [Score(subject=subject, metric=name, value=value, better="none", n=len(runs)) for name, value in constants.items()]
        items = pl.DataFrame(
            {"metric": ["error"] * len(errors), "item": range(len(errors)), "value": errors, "weight": [1.0] * len(errors)}
        )
        context().says = f"error {rows[0].value:.2%} on {len(errors)} trainings, {rows[1].value:.2%} on {len(runs)} fitted"
        return Scores.write(context().output("scores"), rows, items)

    def _run(self, model: Model) -> Run:
        from paredown.engines.scaling_laws import Run

        training = model.training
        counts, loss = training["parameters"], training.get("held_out_loss")
        if loss is None:
            raise DataError("a training has no held-out loss", where=str(model.path), todo="give learn.train the input held_out")
        outside = counts["outside"] if self.count == "blocks" else 0
        return Run(
            params=counts["initial"] - outside, tokens=training["tokens"], loss=loss,
            average_params=counts["average"] - outside, final_params=counts["final"] - outside,
        )  # fmt: skip
