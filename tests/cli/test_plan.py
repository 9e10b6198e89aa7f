"""`paredown plan`: fits of files and of the runs in a workspace, proposals that hold their budget, and one that is really trained."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.cli import planning
from paredown.cli.proposals import flow
from paredown.core import plan as plans
from paredown.core import recipe as recipes
from paredown.core.errors import DataError, PareError, UserError
from paredown.core.ledger import Ledger
from paredown.core.workspace import Record, Workspace
from paredown.engines.scaling_laws import Law
from paredown.learn.models.llama import Llama

LAW = Law(1.0, 60.0, 300.0, 0.35, 0.4)
VOCABULARY = 280
WIDTHS, TOKENS = (16, 32, 64), (2e4, 4e4, 8e4)
RECIPE = """\
name: small
seed: 3
steps:
  read: {{use: corpus.read.files, path: {data}}}
  split: {{use: corpus.split, corpus: $read, held_out: 0.3}}
  tokens: {{use: corpus.tokenize.bpe, corpus: $split.train, held_out: $split.held_out, vocab_size: 280}}
  dense:
    use: learn.train
    model: {{use: learn.models.llama, hidden_size: 16, layers: 2, heads: 2, intermediate_size: 32, max_length: 32}}
    tokens: $tokens.train
    held_out: $tokens.held_out
    budget: {{tokens: 1e4}}
    length: 32
    batch_size: 4
    evaluate_every: 0
    evaluate_tokens: 512
  {more}
  other: {{use: prune.magnitude, model: $dense, sparsity: 0.5}}
{arms}
"""
GRID = "grid:\n  dense.model.hidden_size: [16, 32, 64]\n  dense.budget.tokens: [2e4, 4e4, 8e4]"
SPEED = "speed: {use: measure.speed, model: $dense, batch: 2}"
PRUNING = """\
arms:
  plain: {}
  half: {dense.hooks: [{use: learn.hooks.keep_zeros}, {use: learn.hooks.gradual_pruning, sparsity: 0.5}]}
  most: {dense.hooks: [{use: learn.hooks.keep_zeros}, {use: learn.hooks.gradual_pruning, sparsity: 0.8}]}
"""


def write(folder: Path, arms: str = GRID, more: str = "") -> Path:
    data = folder / "data.jsonl"
    if not data.exists():
        words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
        generator = np.random.default_rng(0)
        rows = [" ".join(generator.choice(words, 60)) for _ in range(60)]
        data.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    path = folder / "small.yaml"
    path.write_text(RECIPE.format(data=data, arms=arms, more=more))
    return path


def finish(recipe: Path, workspace: Path, *, leave: int = 0, loss: bool = True, seeds: tuple[int, ...] = ()) -> plans.Plan:
    """Every training of the recipe as if it had been run, with losses by LAW; the last `leave` ones stay unfinished."""
    plan = plans.make(recipes.load(recipe, seeds=seeds))
    place = Workspace(workspace)
    trainings = [task for task in plan.tasks.values() if task.use == "learn.train"]
    for task in trainings[: len(trainings) - leave]:
        part: Any = task.inputs["model"]
        total, tokens = part.parameters(VOCABULARY), task.strategy.budget.tokens  # type: ignore[attr-defined]
        outside = total - 2 * (4 * part.hidden_size**2 + 3 * part.hidden_size * part.feed_forward)
        sparsity = next((hook.sparsity for hook in task.strategy.hooks if hasattr(hook, "sparsity")), 0.0)  # type: ignore[attr-defined]
        final = round(total - sparsity * (total - outside))
        average = (total + final) / 2  # pruned along a line from 25% to 75% of the tokens
        training = {
            "tokens": int(tokens), "flops": 6.5 * total * tokens, "parameters": {"initial": total, "final": final, "average": average},
            "held_out_loss": float(LAW.loss(average, tokens)) if loss else None,
        }  # fmt: skip
        trained(place, task, training)
    for task in plan.tasks.values():
        if task.use == "measure.speed":
            source: Any = plan.tasks[task.inputs["model"].key].inputs["model"]  # type: ignore[union-attr]
            total = source.parameters(VOCABULARY)
            seconds = 1e-3 * (1 + total * 1e-5)  # of a step for both prompts
            rows = [("decode_tokens_per_second", 2 / seconds), ("parameters", total)]
            out = place.work_folder(task.key) / "out" / "scores"
            commit(place, task, Scores.write(out, [Score(subject="x", metric=m, value=v) for m, v in rows]))
    return plan


def trained(place: Workspace, task: plans.Task, training: dict[str, Any]) -> None:
    """A training as if it had been run, with what it notes of itself and without weights."""
    folder = place.work_folder(task.key) / "out" / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    counts = training["parameters"]
    commit(place, task, Model(folder), facts={"training": training}, parameters={"total": counts["initial"], "nonzero": counts["final"]})


def commit(place: Workspace, task: plans.Task, made: Any, **more: Any) -> None:
    place.commit(Record(task.key, task.use, {}, True, knobs=task.strategy.knobs(), cost={"seconds": 1.0}, **more), made)


def plan(*arguments: str) -> tuple[str, str]:
    """(text, text) of stdout and stderr of the verb in this process."""
    app = typer.Typer()
    app.command()(planning.plan)
    result = CliRunner().invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def asked(*arguments: str) -> dict[str, Any]:
    found = json.loads(plan(*arguments, "--json", "--resamples", "20")[0])
    assert isinstance(found, dict)
    return found


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    rows = [f"{n},{d},{float(LAW.loss(n, d))}" for n, d in itertools.product(np.geomspace(1e5, 1e7, 4), np.geomspace(1e6, 1e9, 4))]
    path.write_text("params,tokens,loss\n" + "\n".join(rows) + "\n")
    return path


def test_fit_of_a_file(runs: Path) -> None:
    found = asked("--fit", str(runs))
    assert [found[name] for name in ("E", "A", "B", "alpha", "beta")] == pytest.approx([1.0, 60, 300, 0.35, 0.4], rel=0.01)
    assert set(found["intervals"]) == {"E", "A", "B", "alpha", "beta"}
    assert all(low <= found[name] <= high for name, (low, high) in found["intervals"].items())
    assert (found["n"], found["parameters"], found["optimum"], found["resamples"]) == (16, "average", None, 20)
    assert found["r2"] > 0.9999
    assert found["mean_abs_relative_error"] < 1e-4
    text, _ = plan("--fit", str(runs), "--resamples", "20")
    assert "16 runs, R^2 1.0000" in text
    assert "20 bootstrap resamples" in text


def test_optimum_of_a_file(runs: Path) -> None:
    best = asked("--fit", str(runs), "--budget", "flops=1e17")["optimum"]
    n, d = LAW.optimum(1e17)
    assert [best["parameters"], best["tokens"]] == pytest.approx([n, d], rel=0.02)
    assert best["interval"][0] <= best["loss"] <= best["interval"][1]
    assert best["beyond"] == pytest.approx({"flops": 1e17 / 6e16, "parameters": n / 1e7, "tokens": d / 1e9}, rel=0.02)
    capped = asked("--fit", str(runs), "--budget", f"flops=1e17,bytes={n}")["optimum"]
    assert capped["parameters"] == pytest.approx(n / 4)
    assert 6 * capped["parameters"] * capped["tokens"] == pytest.approx(1e17)
    text, _ = plan("--fit", str(runs), "--budget", "flops=1e17", "--resamples", "20")
    assert "1e17 FLOPs of training" in text
    assert "1.67 times the largest fitted compute" in text


def test_a_bad_file_is_an_error_with_rows(runs: Path) -> None:
    runs.write_text(runs.read_text() + "1e6,,3\n")
    with pytest.raises(DataError, match="row 17, column tokens: missing"):
        plan("--fit", str(runs))


def test_the_runs_of_a_recipe_are_fitted(tmp_path: Path) -> None:
    recipe, place = write(tmp_path), tmp_path / "w"
    finish(recipe, place)
    found = asked(str(recipe), "-w", str(place))
    assert (found["n"], found["step"], found["recipe"], found["choice"], found["candidates"]) == (9, "dense", "small", None, [])
    assert [found["alpha"], found["beta"]] == pytest.approx([0.35, 0.4], rel=0.03)
    assert len(found["runs"]) == 9
    for run in found["runs"]:
        assert run["fitted"] == pytest.approx(run["loss"], rel=1e-4)
        assert run["seed"] == 3
    text, _ = plan(str(recipe), "-w", str(place), "--resamples", "0")
    assert "9 runs of" in text
    assert "--budget flops=NUMBER" in text


def test_seeds_of_earlier_runs_are_points_too(tmp_path: Path) -> None:
    recipe, place = write(tmp_path), tmp_path / "w"
    finish(recipe, place)
    other = finish(recipe, place, seeds=(8,))
    ledger = Ledger(Workspace(place).ledger_path)
    ledger.start_run("r", "small", str(recipe), {}, {})
    ledger.run_steps([("r", arm, seed, name, t.key, 0, 0) for t in other.tasks.values() for arm, seed, name in t.cells])
    assert asked(str(recipe), "-w", str(place))["n"] == 9, "a run that has not ended"
    ledger.end_run("r", "done")
    found = asked(str(recipe), "-w", str(place))
    assert found["n"] == 18
    assert {run["seed"] for run in found["runs"]} == {3, 8}


def test_the_proposal_has_the_least_predicted_loss_for_its_flops(tmp_path: Path) -> None:
    recipe, place = write(tmp_path), tmp_path / "w"
    finish(recipe, place)
    found = asked(str(recipe), "-w", str(place), "--budget", "flops=1e11")
    choice = found["choice"]
    widths = sorted(c["hidden_size"] for c in found["candidates"])
    assert (widths[0], widths[-1]) == (16, 256)
    law = Law(*(found[name] for name in ("E", "A", "B", "alpha", "beta")))
    for c in found["candidates"]:
        part = Llama(
            hidden_size=c["hidden_size"], layers=2, heads=2, intermediate_size=max(8, round(c["hidden_size"] / 2 / 8) * 8), max_length=32
        )
        assert c["initial"] == part.parameters(VOCABULARY)
        assert c["tokens"] == pytest.approx(1e11 / 6.5 / c["initial"], rel=1e-6)
        assert c["loss"] == pytest.approx(float(law.loss(c["initial"], c["tokens"])))
        assert c["loss"] >= choice["loss"]
    assert choice["overrides"] == {
        "dense.model.hidden_size": choice["hidden_size"],
        "dense.model.intermediate_size": round(choice["hidden_size"] / 16) * 8,  # as in the largest run, in steps of 8
        "dense.budget": {"flops": 1e11},
    }
    assert choice["settings"][-1] == "dense.budget={flops: 1e11}"
    most = max(run["flops"] for run in found["runs"])
    assert choice["beyond"]["flops"] == pytest.approx(1e11 / most)
    assert choice["arm"] == "hidden_size=64, tokens=80000"
    text, _ = plan(str(recipe), "-w", str(place), "--budget", "flops=1e11", "--resamples", "20")
    assert f"hidden size {choice['hidden_size']}," in text
    assert f"{choice['beyond']['flops']:.3g} times the largest fitted compute" in " ".join(text.split())
    assert "--set 'dense.budget={flops: 1e11}'" in text


def test_the_settings_are_what_a_recipe_takes(tmp_path: Path) -> None:
    recipe, place = write(tmp_path, PRUNING + GRID), tmp_path / "w"
    finish(recipe, place)
    found = asked(str(recipe), "-w", str(place), "--budget", "flops=1e11,bytes=1.2e5")
    write(tmp_path, arms="")
    for best in (found["choice"], found["alternative"]):
        assert best
    step = recipes.load(recipe, found["choice"]["settings"]).arms[""]["dense"]
    assert step.inputs["model"].hidden_size == found["choice"]["hidden_size"]  # type: ignore[union-attr]


def test_bytes_ask_which_arm_and_how_sparse(tmp_path: Path) -> None:
    """Runs by the law of the average: below the optimal size, pruning from more parameters must win, within the bytes."""
    recipe, place = write(tmp_path, PRUNING + GRID), tmp_path / "w"
    finish(recipe, place)
    found = asked(str(recipe), "-w", str(place), "--budget", "flops=4e12,bytes=1.2e5")
    assert (found["n"], found["notes"]) == (27, [])
    assert [found["alpha"], found["beta"]] == pytest.approx([0.35, 0.4], rel=0.03)
    choice, other = found["choice"], found["alternative"]
    assert (choice["kind"], other["kind"]) == ("sparse", "dense")
    assert choice["final"] == 3e4 >= other["initial"]
    assert 0 < choice["sparsity"] <= 0.8
    assert choice["average"] == pytest.approx((choice["initial"] + choice["final"]) / 2, rel=1e-3)
    assert choice["flops"] == pytest.approx(4e12)
    assert choice["flops"] < choice["counted_flops"] == pytest.approx(6.5 * choice["initial"] * choice["tokens"], rel=1e-3)
    assert other["difference"] == pytest.approx(choice["loss"] - other["loss"])
    low, high = other["difference_interval"]
    assert low - 1e-9 <= other["difference"] <= high + 1e-9 < 0
    assert choice["overrides"]["dense.budget"] == {"tokens": int(choice["tokens"])}
    keep, prune = choice["overrides"]["dense.hooks"]
    assert keep == {"use": "learn.hooks.keep_zeros"}
    assert prune["sparsity"] == pytest.approx(choice["sparsity"], abs=1e-6)
    assert choice["arm"].startswith(("half", "most"))
    text, _ = plan(str(recipe), "-w", str(place), "--budget", "flops=4e12,bytes=1.2e5", "--resamples", "20")
    said = " ".join(text.split())
    assert "no kernel here skips zeros" in said
    assert "the bytes are of the weights that are not zero" in said
    assert "the best dense one" in said
    settings = choice["settings"]
    assert next(s for s in settings if s.startswith("dense.hooks=")).startswith(
        "dense.hooks=[{use: learn.hooks.keep_zeros}, {use: learn.hooks.gradual"
    )


def test_bytes_alone_train_on_the_most_tokens_of_any_run(tmp_path: Path) -> None:
    recipe, place = write(tmp_path), tmp_path / "w"
    finish(recipe, place)
    choice = asked(str(recipe), "-w", str(place), "--budget", "bytes=2e5")["choice"]
    assert choice["tokens"] == 8e4
    assert choice["initial"] <= 5e4
    assert "bytes decide the size: larger models do not fit" in choice["notes"]
    with pytest.raises(UserError, match="no model of these sizes fits the budget: the smallest has"):
        asked(str(recipe), "-w", str(place), "--budget", "bytes=2000")


def test_milliseconds_cap_the_size_by_measured_speed(tmp_path: Path) -> None:
    recipe, place = write(tmp_path, more=SPEED), tmp_path / "w"
    finish(recipe, place)
    found = asked(str(recipe), "-w", str(place), "--budget", "ms=1.5")
    assert max(c["initial"] for c in found["candidates"]) <= 5e4 * 1.001  # 1 + N / 1e5 milliseconds
    assert "ms decide the size: larger models do not fit" in found["choice"]["notes"]
    with pytest.raises(UserError, match="1 ms a token go by without any weights"):
        asked(str(recipe), "-w", str(place), "--budget", "ms=0.5")
    write(tmp_path)
    with pytest.raises(UserError, match=r"no step of .* measures speed"):
        asked(str(recipe), "-w", str(place), "--budget", "ms=1.5")


def test_runs_that_differ_in_more_than_size_are_named(tmp_path: Path) -> None:
    recipe, place = write(tmp_path, "arms: {a: {}, b: {dense.learning_rate: 1e-3, dense.model.layers: 3}}\n" + GRID), tmp_path / "w"
    finish(recipe, place)
    notes = " ".join(asked(str(recipe), "-w", str(place))["notes"])
    assert "the runs differ in learning_rate, model.layers, too" in notes


def test_a_model_written_as_a_bare_name_is_proposed_whole(tmp_path: Path) -> None:
    recipe, place = write(tmp_path), tmp_path / "w"
    text = recipe.read_text().replace(
        "{use: learn.models.llama, hidden_size: 16, layers: 2, heads: 2, intermediate_size: 32, max_length: 32}", "learn.models.llama"
    )
    recipe.write_text(text.partition("grid:")[0] + "arms:\n" + "".join(f"  a{w}x{d:.0f}: {{dense.model: {{use: learn.models.llama, hidden_size: {w}}}, dense.budget.tokens: {d}}}\n" for w, d in itertools.product(WIDTHS, TOKENS)) + "  largest: {dense.budget.tokens: 1.6e5}\n")  # fmt: skip
    plan_of_it = plans.make(recipes.load(recipe))
    place_ = Workspace(place)
    for task in plan_of_it.tasks.values():
        if task.use == "learn.train":
            total, tokens = task.inputs["model"].parameters(VOCABULARY), task.strategy.budget.tokens  # type: ignore[union-attr, attr-defined]
            training = {"tokens": tokens, "flops": 6 * total * tokens, "parameters": dict.fromkeys(("initial", "final", "average"), total), "held_out_loss": float(LAW.loss(total, tokens))}  # fmt: skip
            trained(place_, task, training)
    choice = asked(str(recipe), "-w", str(place), "--budget", "flops=1e11")["choice"]
    assert choice["arm"] == "largest"
    assert choice["overrides"]["dense.model"] == {"use": "learn.models.llama", "hidden_size": choice["hidden_size"]}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give a recipe or --fit FILE"),
        (("small.yaml", "--fit", "runs.csv"), "not both"),
        (("nowhere.yaml",), "no such recipe"),
        (("--fit", "nowhere.csv"), "no such file"),
        (("small.yaml", "--budget", "flop=1e13"), "did you mean flops?"),
        (("small.yaml", "--budget", "flops"), "expected a number above zero"),
        (("small.yaml", "--budget", "flops=many"), "expected a number above zero"),
        (("small.yaml", "--budget", "flops=-1"), "expected a number above zero"),
        (("small.yaml", "--budget", "flops=inf"), "expected a number above zero"),
        (("small.yaml", "--budget", "flops=1e9,flops=1e9"), "flops stands twice"),
        (("small.yaml", "--verify"), "needs a recipe and a budget"),
        (("--fit", "runs.csv", "--verify", "--budget", "flops=1"), "needs a recipe and a budget"),
        (("--fit", "runs.csv", "--budget", "ms=1"), "needs a recipe whose runs measure speed"),
        (("--fit", "runs.csv", "--budget", "bytes=1e6"), "needs flops, too"),
        (("small.yaml", "--parameters", "mean"), "none of average, final, initial"),
        (("small.yaml", "--step", "dens"), "did you mean dense?"),
        (("small.yaml",), "0 of 9 runs of dense are finished; a scaling law needs at least 6"),
        (("small.yaml",), "paredown compare small.yaml makes them"),
        (("small.yaml", "--step", "tokens"), "0 of 1 runs of tokens are finished"),
    ],
)
def test_wrong_calls_say_what_to_do(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PareError) as caught:
        plan(*arguments)
    assert says in str(caught.value)
    assert caught.value.exit_code == 2
    assert not (tmp_path / ".paredown").exists(), "planning makes no workspace"


def test_too_few_runs_or_no_held_out_loss(tmp_path: Path) -> None:
    recipe, place = write(tmp_path), tmp_path / "w"
    finish(recipe, place, leave=4)
    with pytest.raises(UserError, match="5 of 9 runs of dense are finished"):
        plan(str(recipe), "-w", str(place))
    finish(recipe, tmp_path / "v", loss=False)
    with pytest.raises(UserError, match="9 of 9 runs of dense have no held-out loss"):
        plan(str(recipe), "-w", str(tmp_path / "v"))
    narrow = write(tmp_path, GRID.replace("[16, 32, 64]", "[16, 32]"))
    finish(narrow, tmp_path / "u")
    with pytest.raises(DataError, match="2 different numbers of parameters, at least 3 are needed"):
        plan(str(narrow), "-w", str(tmp_path / "u"))


def test_verify_trains_the_proposal(tmp_path: Path) -> None:
    """Only the steps that the training needs are made, with the proposed width and budget; its own loss is what stands there."""
    recipe, place = write(tmp_path), tmp_path / "w"
    finish(recipe, place)
    found = asked(str(recipe), "-w", str(place), "--budget", "flops=4e9", "--verify")
    done, choice = found["verification"], found["choice"]
    assert done["predicted"] == choice["loss"]
    assert done["error"] == pytest.approx(done["predicted"] / done["measured"] - 1)
    assert done["within"] == (done["interval"][0] <= done["measured"] <= done["interval"][1])
    assert done["parameters"]["initial"] == choice["initial"]
    assert 4e9 <= done["flops"] < 5e9, "the budget ends with the batch that reaches it"
    made = {path.name.rpartition("-")[0] for path in (place / "steps").iterdir()}
    assert made == {"corpus.read.files", "corpus.split", "corpus.tokenize.bpe", "learn.train"}
    record = json.loads((Path(done["folder"]) / "step.json").read_text())
    assert record["facts"]["training"]["held_out_loss"] == done["measured"]
    assert record["knobs"]["budget"] == {"flops": 4e9}
    assert (place / "reports" / "small-plan.json").exists()
    text, _ = plan(str(recipe), "-w", str(place), "--budget", "flops=4e9", "--verify", "--resamples", "20")
    assert f"measured {done['measured']:.4f}" in text
    assert "all cached" in text
    assert f"the prediction is {abs(done['error']):.2%} too {'high' if done['error'] > 0 else 'low'}" in text


def test_values_in_flow_style_are_read_back() -> None:
    from paredown.core.yaml import parse

    for value in (
        1,
        2.5,
        1e13,
        1234567.125,
        True,
        None,
        "plain",
        "two words",
        "true",
        {"use": "a.b", "x": [1, 2]},
        [{"a": {}}],
        'it\'s "so"',
    ):
        assert parse(f"[{flow(value)}]", "").plain() == [value]
    assert flow({"b": 1, "use": "x"}) == "{use: x, b: 1}"
    assert flow({"flops": 1e13}) == "{flops: 1e13}"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, typer; from paredown.cli import planning; app = typer.Typer(); app.command(help=planning.HELP)(planning.plan)\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'scipy', 'numpy', 'polars') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"
    assert "Example: paredown plan" in " ".join(done.stdout.split())
