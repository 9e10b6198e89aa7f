"""MATES: stages, windows and choices in closed form; killed inside its probes it comes to the same bytes; labels dealt out are chance."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_models

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.engines import probing
from paredown.engines.parts import Draw
from paredown.learn.models.llama import Llama
from paredown.learn.samplers.mates import NAME, Mates, preferred
from paredown.learn.train import Train

TEXTS = [f"line {i} of {'abc'[i % 3] * (3 + i % 5)} and {i * 7}\n" for i in range(400)]


def tokens(folder: Path, texts: list[str] = TEXTS) -> Tokens:
    return tiny_models.tokens(folder, texts)


def sampler(reference: Tokens, **knobs: Any) -> Mates:
    made: Mates = build({"use": "learn.samplers.mates", "reference": reference, "stages": 3, "probes": 20, "keep": 0.25, **knobs})
    return made


def train(folder: Path, source: Tokens, part: Any, **knobs: Any) -> tuple[Model, Context]:
    step = Context(folder / "out", folder / "scratch", seed=0)
    step.scratch.mkdir(parents=True, exist_ok=True)
    values = {
        "budget": {"steps": 12},
        "batch_size": 2,
        "length": 32,
        "evaluate_every": 0,
        "log_every": 1,
        "device": "cpu",
        "precision": "fp32",
    }
    strategy = Train(**{**values, "sampler": part, **knobs})
    with running(step):
        return strategy(Llama(hidden_size=16, layers=1, heads=2, intermediate_size=24, max_length=64), source), step


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokens, Tokens]:
    folder = tmp_path_factory.mktemp("mates")
    return tokens(folder / "pool"), tokens(folder / "reference", TEXTS[:30:3])


def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The rows of every batch that is chosen."""
    found: list[Any] = []
    real = Mates.choose

    def choose(self: Mates, rows: Any, draw: Draw) -> Any:
        found.append(real(self, rows, draw))
        return found[-1]

    monkeypatch.setattr(Mates, "choose", choose)
    return found


def test_windows_are_disjoint_and_cover_all_rows_and_a_stage_keeps_its_share(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, chosen = sampler(data[1]), seen(monkeypatch)
    state = SimpleNamespace(source=SimpleNamespace(rows=1001), seed=4)
    windows = [part._window(state, stage) for stage in range(3)]  # type: ignore[arg-type]
    assert sorted(np.concatenate(windows)) == list(range(1001))
    assert [len(w) for w in windows] == [333, 334, 334]

    _, step = train(tmp_path, data[0], part)
    from paredown.engines.batches import packed

    rows = packed(data[0], 32).rows
    state = SimpleNamespace(source=SimpleNamespace(rows=rows), seed=step.derived_seed("train"))
    for stage in range(3):
        window = part._window(state, stage)  # type: ignore[arg-type]
        of_stage = np.concatenate(chosen[4 * stage : 4 * stage + 4])
        assert set(of_stage) <= set(window)
        assert len(set(of_stage)) == min(8, len(window) // 4), "one pass, no row twice before all were seen"


@pytest.mark.parametrize("noise", ["gumbel_topk", "reference", "none"])
def test_a_stage_keeps_a_fifth_of_its_window_and_no_row_twice(data: Any, noise: str) -> None:
    part, draw = sampler(data[1], stages=4, keep=0.2, noise=noise), np.random.default_rng(0)
    for rows in range(80, 500, 7):
        state: Any = SimpleNamespace(source=SimpleNamespace(rows=rows), seed=rows, step=0, kept={})
        kept: list[int] = []
        for stage in range(4):
            window = part._window(state, stage)
            part._keep(state, stage, window, draw.normal(size=len(window)) if stage else None)
            of_stage = state.kept[NAME]["rows"].tolist()
            assert len(of_stage) == len(window) // 5
            assert set(of_stage) <= set(window.tolist())
            kept += of_stage
        assert len(kept) == len(set(kept)), "nor in two stages"


def test_the_same_bytes_twice_and_after_a_kill_inside_the_probes(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "SAVE_EVERY", 4)
    one, step = train(tmp_path / "one", data[0], sampler(data[1], recheck=5))
    real, calls = probing.Probes.tried, []

    def tried(self: Any, rows: Any) -> Any:
        calls.append(len(rows))
        if len(calls) in (3, 11):
            raise RuntimeError("killed")
        return real(self, rows)

    monkeypatch.setattr(probing.Probes, "tried", tried)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            train(tmp_path / "two", data[0], sampler(data[1], recheck=5))
    two, again = train(tmp_path / "two", data[0], sampler(data[1], recheck=5))
    for file in sorted(p.name for p in one.path.iterdir()):
        assert (one.path / file).read_bytes() == (two.path / file).read_bytes(), file
    assert step.facts["curves"] == again.facts["curves"]
    assert step.cost.flops == again.cost.flops
    assert step.facts["curves"]["influence_spearman"]
    monkeypatch.setattr(probing.Probes, "tried", real)
    other, _ = train(tmp_path / "three", data[0], sampler(data[1], recheck=5, shuffled_influence=True))
    assert (other.path / "model.safetensors").read_bytes() != (one.path / "model.safetensors").read_bytes()


def test_a_stop_between_stages_goes_on_with_what_was_chosen(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, before = train(tmp_path / "one", data[0], sampler(data[1], refit="once"))
    real, calls = Mates.choose, []

    def choose(self: Mates, rows: Any, draw: Draw) -> Any:
        calls.append(draw.index)
        if draw.index == 6 and calls.count(6) == 1:
            signal.raise_signal(signal.SIGINT)
        return real(self, rows, draw)

    monkeypatch.setattr(Mates, "choose", choose)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "two", data[0], sampler(data[1], refit="once"))
    two, step = train(tmp_path / "two", data[0], sampler(data[1], refit="once"))
    assert step.facts["resumed_at"] == 7
    assert step.facts["curves"] == before.facts["curves"], "what the selections measured stands in the curves of both"
    assert step.cost.flops == before.cost.flops
    assert (one.path / "model.safetensors").read_bytes() == (two.path / "model.safetensors").read_bytes()


def test_probing_counts_into_the_flops_and_a_budget_of_flops_buys_fewer_steps(data: Any, tmp_path: Path) -> None:
    plain, chosen = build("learn.samplers.shuffled"), sampler(data[1])
    _, base = train(tmp_path / "a", data[0], plain)
    _, more = train(tmp_path / "b", data[0], chosen)
    selection = more.facts["curves"]["selection_flops"][-1][2]
    assert more.cost.flops > base.cost.flops
    assert selection == pytest.approx(
        more.cost.flops - base.cost.flops, rel=0.25
    )  # rows of two windows cost a little more than rows of one
    _, equal = train(tmp_path / "c", data[0], chosen, budget={"flops": base.cost.flops})
    assert equal.facts["steps"] < 12


@pytest.mark.parametrize("predictor", ["own_encoder", "hashed_ngrams"])
def test_static_scores_are_those_of_the_first_selection(data: Any, tmp_path: Path, predictor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[int] = []
    real = Mates._fitted

    def counted(self: Mates, state: Any, stage: int, *rest: Any) -> Any:
        fitted.append(stage)
        return real(self, state, stage, *rest)

    monkeypatch.setattr(Mates, "_fitted", counted)
    train(tmp_path / "once", data[0], sampler(data[1], refit="once", predictor=predictor))
    train(tmp_path / "each", data[0], sampler(data[1], predictor=predictor))
    assert fitted == [1, 1, 2]


def test_what_is_kept_follows_the_noise() -> None:
    scores, rng = np.linspace(-2, 2, 100), np.random.default_rng(0)
    assert preferred(scores, 5, "none", 1.0, rng).tolist() == [99, 98, 97, 96, 95]
    assert preferred(scores, 5, "gumbel_topk", 1e-6, rng).tolist() == [99, 98, 97, 96, 95]
    means = {
        noise: np.mean([scores[preferred(scores, 20, noise, 1.0, rng)].mean() for _ in range(300)])
        for noise in ("gumbel_topk", "reference")
    }
    assert 0.3 < means["gumbel_topk"] < means["reference"] < scores[-20:].mean(), (
        "the published code's noise has its long tail on the other side"
    )
    even = np.mean([scores[preferred(scores, 20, "gumbel_topk", 1e6, rng)].mean() for _ in range(300)])
    assert abs(even) < 0.1


def test_mistakes_are_named(data: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="smaller than 5,000 probes"):
        train(tmp_path / "a", data[0], sampler(data[1], probes=5000))
    several: Any = SimpleNamespace(setup=SimpleNamespace(parallel="ddp"), source=None)
    with pytest.raises(UserError, match="one process"):
        sampler(data[1]).start(several)
    images: Any = SimpleNamespace(setup=SimpleNamespace(parallel="none"), source=SimpleNamespace(rows=9))
    with pytest.raises(UserError, match="rows of tokens"):
        sampler(data[1]).start(images)
    assert sampler(data[1]).strategy_name() == NAME
