"""`paredown plan`: fit a scaling law to finished runs and say what to train for a budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paredown.cli.options import DEFAULT, DebugOption, JsonOption, SetOption, SizeOption, WorkspaceOption

if TYPE_CHECKING:
    from paredown.cli.proposals import Point, Points, Proposal
    from paredown.engines.compute_planning import Candidate, Limits, Measured, Size
    from paredown.engines.scaling_laws import Fit

HELP = """Fit a scaling law to the finished runs of a recipe, or to a file of runs, and propose what to train for a budget.

The law is L(N, D) = E + A/N^alpha + B/D^beta: the held-out loss by parameters N and training tokens D. The proposal is the size
of model and the number of tokens with the least predicted loss, with its interval and how far it lies beyond the fitted runs.

Example: paredown plan recipes/scaling.yaml --budget flops=1e13 --verify
Example: paredown plan --fit runs.csv --budget flops=1e21
"""
KINDS = ("flops", "bytes", "ms")
COUNTS = ("average", "final", "initial")


def plan(
    recipe: Annotated[Path | None, typer.Argument(help="The recipe (YAML) whose finished runs are fitted.")] = None,
    file: Annotated[
        Path | None, typer.Option("--fit", metavar="FILE", help="Runs from a file instead: params, tokens, loss, one run a row.")
    ] = None,
    budget: Annotated[
        str, typer.Option("--budget", metavar="KIND=NUMBER,...", help="flops to train with, bytes at rest, ms a token decoded.")
    ] = "",
    step: Annotated[str, typer.Option("--step", metavar="NAME", help="The training step; by default the first of a new model.")] = "",
    verify: Annotated[bool, typer.Option("--verify", help="Train what is proposed and compare its loss with the predicted one.")] = False,
    parameters: Annotated[
        str, typer.Option("--parameters", help="N of pruned runs: average (over training), final or initial.")
    ] = "average",
    resamples: Annotated[int, typer.Option("--resamples", min=0, max=100_000, help="Bootstrap resamples for the intervals.")] = 1000,
    settings: SetOption = None,
    size: SizeOption = "",
    workspace: WorkspaceOption = DEFAULT,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    from paredown.core.errors import UserError

    limits = parse_budget(budget)
    if parameters not in COUNTS:
        raise UserError(f"--parameters: {parameters!r} is none of {', '.join(COUNTS)}")
    if (recipe is None) == (file is None):
        raise UserError("give a recipe or --fit FILE" + (", not both" if recipe else ""), todo="paredown plan --help")
    if verify and (recipe is None or not budget):
        raise UserError("--verify trains what is proposed, so it needs a recipe and a budget", todo="add --budget flops=...")
    from paredown.cli import planning_text, screen

    if file is not None:
        found = _of_file(file, limits, parameters, resamples)
        lines = planning_text.of_file(found)
    else:
        assert recipe is not None
        points = _points(recipe, settings or [], size, step, workspace)
        found, proposal = _of_recipe(points, limits, parameters, resamples)
        lines = planning_text.of_recipe(found)
        if verify and proposal:
            if not as_json:
                print("\n".join([*lines, ""]), flush=True)
            found["verification"] = _verified(points, proposal, found, as_json)
            if found["verification"] is None:
                return 130
            lines = ["", *planning_text.verdict(found)]
    if as_json:
        screen.print_json(found)
    else:
        print("\n".join(lines))
    return 0


def parse_budget(text: str) -> Limits:
    """`flops=1e13,bytes=4e6`.

    Raises:
        UserError: it is something else.
    """
    from paredown.core.errors import UserError, nearest
    from paredown.engines.compute_planning import Limits

    found: dict[str, float] = {}
    for piece in filter(None, (p.strip() for p in text.split(","))):
        kind, _, raw = (part.strip() for part in piece.partition("="))
        if kind not in KINDS:
            close = nearest(kind, KINDS)
            raise UserError(
                f"--budget: {kind!r} is none of {', '.join(KINDS)}", todo=f"did you mean {close[0]}?" if close else "such as flops=1e13"
            )
        try:
            value = float(raw)
        except ValueError:
            value = float("nan")
        if not 0 < value < float("inf"):
            raise UserError(f"--budget: {piece!r}: expected a number above zero", todo=f"such as {kind}=1e13")
        if kind in found:
            raise UserError(f"--budget: {kind} stands twice")
        found[kind] = value
    return Limits(**found)


def _of_file(file: Path, limits: Limits, parameters: Any, resamples: int) -> dict[str, Any]:
    from paredown.core.errors import UserError
    from paredown.engines import compute_planning, scaling_laws
    from paredown.engines.scaling_tables import read_runs

    if limits.ms:
        raise UserError("--budget ms needs a recipe whose runs measure speed", todo="paredown plan RECIPE --budget ms=...")
    if limits.bytes and not limits.flops:
        raise UserError("--budget bytes with a file needs flops, too", todo="such as --budget flops=1e21,bytes=4e9")
    runs = read_runs(file)
    fit = scaling_laws.fit(runs, parameters, resamples=resamples)
    found = _law_json(fit) | {"file": str(file), "budget": _budget_json(limits), "optimum": None}
    if limits.flops:
        n, d = compute_planning.optimum(fit.law, limits.flops, limits.bytes)
        foreseen = fit.predict(n, d)
        counts = [run.count(parameters) for run in runs]
        compute = max(compute_planning.PER_WEIGHT * count * run.tokens for count, run in zip(counts, runs, strict=True))
        found["optimum"] = {
            "parameters": n, "tokens": d, "loss": foreseen.loss, "interval": [foreseen.low, foreseen.high],
            "beyond": {"flops": limits.flops / compute, "parameters": n / max(counts), "tokens": d / max(run.tokens for run in runs)},
        }  # fmt: skip
    return found


def _points(recipe: Path, settings: list[str], size: str, step: str, workspace: Path) -> Points:
    """The recipe's finished runs, those of seeds that it ran with before among them."""
    from paredown.cli import proposals
    from paredown.core import recipe as recipes
    from paredown.core.ledger import Ledger
    from paredown.core.workspace import Workspace

    checked = recipes.load(recipe, settings, size=size)
    if workspace.exists():
        earlier = Ledger(Workspace(workspace).ledger_path).seeds_of(checked.name, checked.file)
        checked.seeds = list(dict.fromkeys([*checked.seeds, *earlier]))
    return proposals.collect(checked, step, workspace)


def _of_recipe(points: Points, limits: Limits, parameters: Any, resamples: int) -> tuple[dict[str, Any], Proposal | None]:
    from paredown.cli import proposals
    from paredown.core.errors import UserError
    from paredown.engines import compute_planning, scaling_laws

    fit = scaling_laws.fit(points.runs, parameters, resamples=resamples)
    recipe = points.plan.recipe
    law = _law_json(fit)
    law["notes"] += proposals.differences(points)
    found = law | {
        "recipe": recipe.name, "file": recipe.file, "step": points.step, "budget": _budget_json(limits),
        "runs": [_run_json(fit, point) for point in points.found],
        "candidates": [], "choice": None, "alternative": None, "verification": None,
    }  # fmt: skip
    if not (limits.flops or limits.bytes or limits.ms):
        return found, None
    sizes, measured = proposals.sizes(points), proposals.measured(points, limits.ms)
    dense = compute_planning.dense(fit, sizes, limits, measured)
    sparse = compute_planning.sparse(fit, sizes, limits, measured)
    choice = compute_planning.best([*dense, *sparse])
    if choice is None:
        raise UserError(
            f"no model of these sizes fits the budget: the smallest has {min(s.weights for s in sizes):,} weights",
            todo="allow more, or train smaller models, too",
        )
    proposal = proposals.propose(points, choice, limits.flops)
    other = compute_planning.best(sparse if choice.kind == "dense" else dense)
    if other:
        value, low, high = compute_planning.difference(fit, choice, other)
        found["alternative"] = _candidate_json(other) | {"difference": value, "difference_interval": [low, high]}
    found["candidates"] = [_candidate_json(candidate) for candidate in (*dense, *sparse)]
    runs = points.runs
    seen = proposals.passes(points, choice.tokens)
    found["choice"] = _candidate_json(choice) | {
        "arm": proposal.arm, "seed": proposal.seed, "overrides": proposal.overrides, "settings": proposal.settings(),
        "beyond": {
            "flops": choice.counted / max(point.flops for point in points.found),
            "parameters": choice.parameters(fit.parameters) / max(run.count(fit.parameters) for run in runs),
            "tokens": choice.tokens / max(run.tokens for run in runs),
        },
        "passes": seen[0] if seen else None, "passes_fitted": seen[1] if seen else None,
        "notes": _notes(choice, sizes, limits, measured),
    }  # fmt: skip
    return found, proposal


def _notes(choice: Candidate, sizes: list[Size], limits: Limits, measured: Measured) -> list[str]:
    """What must be said beside the choice."""
    from paredown.cli.screen import number
    from paredown.engines.compute_planning import BYTES_PER_WEIGHT

    notes = []
    larger = [size for size in sizes if size.width > choice.width]
    capped = [kind for kind, most in (("bytes", (limits.bytes or 0) / BYTES_PER_WEIGHT), ("ms", measured.most_weights)) if 0 < most < float("inf") and larger and larger[0].weights > most]  # fmt: skip
    if choice.kind == "sparse":
        notes += [
            f"the bytes are of the weights that are not zero, {BYTES_PER_WEIGHT} each; stored with its zeros the model takes {number(choice.initial * BYTES_PER_WEIGHT, 'bytes')}",
            f"the FLOPs count a weight that is zero as nothing; no kernel here skips zeros, so the training really makes {number(choice.counted, 'FLOPs')}",
        ]
    elif capped:
        notes.append(f"{' and '.join(capped)} decide the size: larger models do not fit")
    elif not larger:
        notes.append("the largest size that was looked at: the best one may be larger")
    if choice.width == min(size.width for size in sizes):
        notes.append("the smallest size that was looked at: the best one may be smaller")
    return notes


def _verified(points: Points, proposal: Proposal, found: dict[str, Any], quiet: bool) -> dict[str, Any] | None:
    """Train the proposal and hold its loss beside the predicted one; None where that was interrupted."""
    from paredown.cli import proposals, running

    plan_of_it, task = proposals.planned(points, proposal)
    done = running.execute(plan_of_it, points.place, running.How(as_json=quiet, report=False))
    if done["status"] == "interrupted":
        return None
    loss, record = proposals.outcome(points.place, task)
    training, (low, high), foreseen = record.facts["training"], found["choice"]["interval"], found["choice"]["loss"]
    return {
        "predicted": foreseen, "interval": [low, high], "measured": loss, "error": foreseen / loss - 1, "within": low <= loss <= high,
        "parameters": {name: float(training["parameters"][name]) for name in COUNTS}, "tokens": training["tokens"],
        "flops": training["flops"], "seconds": record.cost["seconds"], "folder": str(record.folder),
    }  # fmt: skip


def _law_json(fit: Fit) -> dict[str, Any]:
    from paredown.engines.scaling_laws import NAMES

    return {
        **{name: getattr(fit.law, name) for name in NAMES},
        "intervals": {name: list(interval) for name, interval in fit.intervals().items()},
        "r2": fit.r2,
        "mean_abs_relative_error": fit.mean_abs_relative_error,
        "n": fit.n,
        "resamples": len(fit.resamples),
        "parameters": fit.parameters,
        "notes": list(fit.notes),
    }


def _budget_json(limits: Limits) -> dict[str, float | None]:
    return {kind: getattr(limits, kind) for kind in KINDS}


def _run_json(fit: Fit, point: Point) -> dict[str, Any]:
    run, (arm, seed, _) = point.run, point.task.cells[0]
    return {
        "arm": arm, "seed": seed, "initial": run.params, "final": run.count("final"), "average": run.count("average"),
        "tokens": run.tokens, "flops": point.flops, "loss": run.loss, "fitted": float(fit.law.loss(run.count(fit.parameters), run.tokens)),
    }  # fmt: skip


def _candidate_json(candidate: Candidate) -> dict[str, Any]:
    foreseen = candidate.prediction
    return {
        "kind": candidate.kind, "hidden_size": candidate.width, "initial": candidate.initial, "final": candidate.final,
        "average": candidate.average, "sparsity": candidate.sparsity, "tokens": candidate.tokens, "flops": candidate.flops,
        "counted_flops": candidate.counted, "loss": foreseen.loss, "interval": [foreseen.low, foreseen.high],
    }  # fmt: skip
