"""Which examples stay: closed forms and brute force of every score, quotas, and what is said of those that go."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.corpus.rewrite.noisy_labels import NoisyLabels
from paredown.corpus.select.el2n import El2n, el2n
from paredown.corpus.select.forgetting import Forgetting, forgetting
from paredown.corpus.select.grand import Grand
from paredown.corpus.select.herding import Herding, herded
from paredown.corpus.select.k_center import KCenter, k_center
from paredown.corpus.select.random import Random
from paredown.corpus.select.uncertainty import Uncertainty, certainty
from paredown.engines.classifiers import LabelledRows, features, gradient_norms, probabilities
from paredown.engines.example_choice import Choice, by_score
from paredown.engines.modules import initialized
from paredown.learn.hooks.learning_events import LearningEvents, note
from paredown.learn.train import Train

ROWS, CLASSES = 60, 3
DRAW = np.random.default_rng(0)
LABEL = np.repeat(np.arange(CLASSES), [30, 20, 10])
FEATURES = DRAW.normal(size=(ROWS, 4)) + LABEL[:, None]


def examples(folder: Path) -> Examples:
    image = (DRAW.integers(0, 100, (ROWS, 1, 4, 4)) + 50 * LABEL[:, None, None, None]).astype(np.uint8)
    return Examples.write(folder, pl.DataFrame({"image": pl.Series(image), "label": LABEL}))


def vectors(folder: Path) -> Examples:
    return Examples.write(folder, pl.DataFrame({"features": pl.Series(FEATURES, dtype=pl.Array(pl.Float64, 4)), "label": LABEL}))


def network(folder: Path, kind: str = "mlp", seed: int = 0) -> Model:
    spec: dict[str, Any] = {
        "mlp": {"use": "learn.models.mlp", "inputs": 4, "hidden": [5], "classes": CLASSES},
        "linear": {"use": "learn.models.mlp", "inputs": 4, "hidden": [], "classes": CLASSES},
        "resnet": {"use": "learn.models.resnet", "channels": 1, "classes": CLASSES, "widths": [4, 6], "blocks": [1, 1]},
    }[kind]
    return Model.save(folder, initialized(build(spec), None, seed))


def called(folder: Path, strategy: Any, *inputs: Any, seed: int | None = None) -> tuple[Any, Context]:
    step = Context(folder / "out", folder / "scratch", seed, "select")
    with running(step):
        return strategy(*inputs), step


def kept(found: Any) -> list[int]:
    """Places of the kept rows, by their features."""
    rows = [tuple(row) for row in found.kept.frame()["features"].to_list()]
    places = {tuple(row): place for place, row in enumerate(FEATURES.tolist())}
    return [places[row] for row in rows]


# scores -------------------------------------------------------------------------------------------------------------


def test_el2n_is_the_distance_to_the_label() -> None:
    found = el2n(np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), np.array([0, 0, 1]))
    assert found == pytest.approx([np.sqrt(0.09 + 0.04 + 0.01), 0.0, np.sqrt(2)])


def test_certainty_by_hand() -> None:
    table = np.array([[0.6, 0.3, 0.1], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    assert certainty(table, "margin") == pytest.approx([0.3, 1.0, 0.0])
    assert certainty(table, "confidence") == pytest.approx([0.6, 1.0, 1 / 3])
    assert certainty(table, "entropy") == pytest.approx([0.6 * np.log(0.6) + 0.3 * np.log(0.3) + 0.1 * np.log(0.1), 0.0, -np.log(3)])
    assert certainty(np.ones((2, 1)), "margin").tolist() == [1, 1], "a single label leaves nothing to doubt"


@pytest.mark.parametrize("kind", ["mlp", "resnet"])
def test_gradient_norms_are_those_of_one_backward_pass_a_row(tmp_path: Path, kind: str) -> None:
    source = LabelledRows(examples(tmp_path / "e") if kind == "resnet" else vectors(tmp_path / "e"))
    module = network(tmp_path / "m", kind).load()
    found, flops = gradient_norms(module, source, 16)
    column = "image" if kind == "resnet" else "features"
    for row in range(0, ROWS, 7):
        batch = source.fill(np.array([row]))
        values = torch.from_numpy(batch[column]).float()
        module.zero_grad()
        functional.cross_entropy(module(values / 127.5 - 1 if kind == "resnet" else values), torch.from_numpy(batch["label"])).backward()
        norm = torch.cat([p.grad.flatten() for p in module.parameters()]).norm()  # type: ignore[union-attr]
        assert found[row] == pytest.approx(float(norm), rel=1e-4)
    _, forward = probabilities(module, source, 16)
    assert flops == 3 * forward > 0


def test_the_gradient_of_a_linear_classifier_is_the_error_times_the_row(tmp_path: Path) -> None:
    """|p - y| sqrt(|x|^2 + 1), which ties GraNd to EL2N."""
    source, module = LabelledRows(vectors(tmp_path / "e")), network(tmp_path / "m", "linear").load()
    errors = el2n(probabilities(module, source, 64)[0], LABEL)
    assert gradient_norms(module, source, 64)[0] == pytest.approx(errors * np.sqrt((FEATURES**2).sum(axis=1) + 1), rel=1e-4)


def test_features_are_what_enters_the_last_layer(tmp_path: Path) -> None:
    source, module = LabelledRows(vectors(tmp_path / "e")), network(tmp_path / "m").load()
    found, _ = features(module, source, 7)
    with torch.no_grad():
        assert torch.equal(torch.from_numpy(found), module.blocks[0](torch.from_numpy(FEATURES).float()))  # type: ignore[index,operator]


# choosing by place --------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(1, 12), st.integers(1, 3))
def test_herding_is_the_greedy_choice_by_brute_force(seed: int, rows: int, width: int) -> None:
    table = np.random.default_rng(seed).normal(size=(rows, width))
    chosen = herded(table, rows).tolist()
    assert sorted(chosen) == list(range(rows))

    def distance(some: list[int]) -> float:
        return float(((table[some].mean(axis=0) - table.mean(axis=0)) ** 2).sum())

    for number in range(rows):
        left = [row for row in range(rows) if row not in chosen[:number]]
        best = min(distance([*chosen[:number], row]) for row in left)  # two rows may tie but for rounding
        assert distance(chosen[: number + 1]) == pytest.approx(best, abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(2, 10), st.integers(1, 4))
def test_k_center_is_the_farthest_point_and_at_most_twice_the_best_radius(seed: int, rows: int, count: int) -> None:
    table = np.random.default_rng(seed).normal(size=(rows, 2))
    count = min(count, rows)
    chosen = k_center(table, count).tolist()
    distance = np.sqrt(((table[:, None] - table[None]) ** 2).sum(axis=2))
    assert chosen[0] == int(((table - table.mean(axis=0)) ** 2).sum(axis=1).argmin())
    for number in range(1, count):
        assert distance[chosen[:number]].min(axis=0)[chosen[number]] == pytest.approx(distance[chosen[:number]].min(axis=0).max())
    best = min(distance[list(centers)].min(axis=0).max() for centers in itertools.combinations(range(rows), count))
    assert distance[chosen].min(axis=0).max() <= 2 * best + 1e-9 if count < rows else len(set(chosen)) == rows


def test_equal_rows_are_still_chosen_once() -> None:
    for pick in (herded, k_center):
        assert sorted(pick(np.ones((5, 2)), 5).tolist()) == list(range(5))


# learning events ----------------------------------------------------------------------------------------------------


def test_forgotten_is_what_was_right_before_and_is_wrong_now() -> None:
    """Row 0: right, wrong, right, wrong: forgotten twice. Row 1: never right. Row 2: always right. Row 3: learned late."""
    counts = {name: torch.zeros(4, dtype=torch.long) for name in ("seen", "right", "forgotten")} | {
        "last": torch.zeros(4, dtype=torch.bool)
    }
    for right in ([1, 0, 1, 0], [0, 0, 1, 0], [1, 0, 1, 1], [0, 0, 1, 1]):
        note(counts, torch.arange(4), torch.tensor(right).bool())
    assert counts["forgotten"].tolist() == [2, 0, 0, 0]
    assert counts["right"].tolist() == [2, 0, 4, 2]
    frame = pl.DataFrame({name: values.numpy() for name, values in counts.items()})
    assert forgetting(frame).tolist() == [2, 4, 0, 0], "never right counts as forgotten at every presentation"


def test_a_row_that_stands_twice_in_a_batch_is_forgotten_once() -> None:
    counts = {name: torch.zeros(2, dtype=torch.long) for name in ("seen", "right", "forgotten")} | {"last": torch.tensor([True, True])}
    note(counts, torch.tensor([0, 0, 1]), torch.tensor([False, False, True]))
    assert {name: counts[name].tolist() for name in ("seen", "right", "forgotten")} == {
        "seen": [2, 1],
        "right": [0, 1],
        "forgotten": [1, 0],
    }


def trained(folder: Path, data: Examples, stop: int | None = None, **knobs: Any) -> Model:
    strategy = Train(
        budget={"epochs": 4}, objective=build("learn.objectives.classification"), hooks=(LearningEvents(),), batch_size=16, warmup=0,
        learning_rate=0.05, device="cpu", precision="fp32", checkpoint_seconds=0.001, **knobs,
    )  # fmt: skip
    step = Context(folder / "out", folder / "scratch", 1, "train")
    if stop is not None:
        step.listener.progress = _stopper(stop)  # type: ignore[method-assign]
    with running(step):
        found: Model = strategy(build({"use": "learn.models.mlp", "inputs": 4, "hidden": [5], "classes": CLASSES}), examples=data)
    return found


def _stopper(after: int) -> Any:
    left = [after]

    def progress(*_: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    return progress


def test_a_training_notes_events_and_is_not_changed_by_it(tmp_path: Path) -> None:
    data = vectors(tmp_path / "e")
    model = trained(tmp_path / "1", data)
    rows = model.training_rows()
    assert rows["label"].to_list() == LABEL.tolist()
    assert rows["seen"].to_list() == [4] * ROWS
    assert (rows["right"] <= 4).all()
    assert (rows["forgotten"] <= rows["right"]).all()
    assert 0 < rows["right"].sum() < 4 * ROWS
    plain = Train(
        budget={"epochs": 4}, objective=build("learn.objectives.classification"), batch_size=16, warmup=0, learning_rate=0.05, device="cpu",
        precision="fp32",
    )  # fmt: skip
    other, _ = called(
        tmp_path / "2", plain, build({"use": "learn.models.mlp", "inputs": 4, "hidden": [5], "classes": CLASSES}), None, None, data, seed=1
    )
    pairs = zip(model.load().state_dict().values(), other.load().state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(DataError, match="no training_rows"):
        other.training_rows()


def test_events_survive_a_stop(tmp_path: Path) -> None:
    data = vectors(tmp_path / "e")
    whole = trained(tmp_path / "whole", data).training_rows()
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", data, stop=0)
    import shutil

    shutil.rmtree(tmp_path / "cut" / "out", ignore_errors=True)
    assert trained(tmp_path / "cut", data).training_rows().equals(whole)


# choosing -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.floats(0.01, 1), st.booleans(), st.integers(0, 9))
def test_as_many_stay_as_asked_and_of_every_label_its_share(labels: list[int], fraction: float, balanced: bool, seed: int) -> None:
    own, scores = np.array(labels), np.random.default_rng(seed).normal(size=len(labels))
    chosen = by_score(own, scores, Choice(fraction, balanced), "highest")
    assert len(chosen) == len(set(chosen.tolist())) == max(1, round(fraction * len(labels)))
    assert chosen.tolist() == sorted(chosen.tolist())
    for label in set(labels) if balanced else []:
        assert abs((own[chosen] == label).sum() - len(chosen) * (own == label).mean()) < 1
    for group in [own == label for label in set(labels)] if balanced else [own >= 0]:
        inside = np.isin(np.arange(len(own)), chosen) & group
        if inside.any() and (group & ~inside).any():
            assert scores[inside].min() >= scores[group & ~inside].max()
    if not balanced:
        other = by_score(own, scores, Choice(fraction, False), "lowest")
        assert by_score(own, -scores, Choice(fraction, False), "highest").tolist() == other.tolist()


def test_scores_are_means_over_the_models(tmp_path: Path) -> None:
    data = vectors(tmp_path / "e")
    models = tuple(network(tmp_path / f"m{seed}", seed=seed) for seed in range(3))
    source = LabelledRows(data)
    scores = np.mean([el2n(probabilities(model.load(), source, 64)[0], LABEL) for model in models], axis=0)
    found, step = called(tmp_path / "s", El2n(fraction=0.25, keep_rejected=True), data, models)
    assert kept(found) == by_score(LABEL, scores, Choice(0.25), "highest").tolist()
    gone = found.rejected.frame()
    assert set(gone["reason"]) == {"el2n"}
    rest = np.setdiff1d(np.arange(ROWS), kept(found))
    assert gone["score"].to_list() == pytest.approx(scores[rest].tolist())
    assert step.dropped == {"el2n": [45, 0, 0]}
    assert step.cost.flops == sum(probabilities(model.load(), source, 64)[1] for model in models)
    easy, _ = called(tmp_path / "easy", El2n(fraction=0.25, keep="lowest"), data, models)
    assert not set(kept(easy)) & set(kept(found))


@pytest.mark.parametrize("strategy", [Grand, Uncertainty, Herding, KCenter])
def test_every_selector_keeps_its_share_in_the_order_of_the_rows(tmp_path: Path, strategy: Any) -> None:
    data, models = vectors(tmp_path / "e"), (network(tmp_path / "a"), network(tmp_path / "b", seed=1))
    found, step = called(tmp_path / "s", strategy(fraction=0.2, keep_rejected=True), data, models)
    assert np.bincount(found.kept.frame()["label"], minlength=CLASSES).tolist() == [6, 4, 2]
    assert kept(found) == sorted(kept(found))
    assert found.rejected.rows == ROWS - 12
    assert step.cost.flops > 0
    whole, _ = called(tmp_path / "whole", strategy(fraction=1), data, models)
    assert whole.kept.frame().equals(data.frame())


def test_what_stays_is_foreseen_so_that_epochs_over_it_are(tmp_path: Path) -> None:
    for strategy in (El2n, Forgetting, Grand, Herding, KCenter, Random, Uncertainty):
        assert strategy(fraction=0.05).estimate({"examples": {"rows": 896.0}}) == {"rows": 45}
        assert strategy(fraction=0.05).estimate({"examples": {}}) == {}
    assert NoisyLabels().estimate({"examples": {"rows": 896.0}}) == {"rows": 896}
    assert Train(budget={"epochs": 5}).estimate({"examples": Random(fraction=0.001).estimate({"examples": {"rows": 10.0}})})["tokens"] == 5


def test_herding_chooses_within_each_label_on_the_features_of_all_models(tmp_path: Path) -> None:
    data, models = vectors(tmp_path / "e"), (network(tmp_path / "a"), network(tmp_path / "b", seed=1))
    table = np.concatenate([features(model.load(), LabelledRows(data), 64)[0] for model in models], axis=1)
    expected = [np.flatnonzero(label == LABEL)[herded(table[label == LABEL], count)] for label, count in enumerate((6, 4, 2))]
    assert kept(called(tmp_path / "s", Herding(fraction=0.2), data, models)[0]) == sorted(np.concatenate(expected).tolist())


def test_forgetting_reads_what_the_trainings_noted(tmp_path: Path) -> None:
    data = vectors(tmp_path / "e")
    models = (trained(tmp_path / "a", data), trained(tmp_path / "b", data, length=64))
    scores = sum(forgetting(model.training_rows()) for model in models)
    assert (
        kept(called(tmp_path / "s", Forgetting(fraction=0.2), data, models)[0]) == by_score(LABEL, scores, Choice(0.2), "highest").tolist()
    )
    other = Examples.write(tmp_path / "other", data.frame().reverse())
    with pytest.raises(UserError, match="60 other examples than these 60") as found:
        called(tmp_path / "t", Forgetting(), other, models)
    assert "learning_events" in found.value.todo


def test_a_random_subset_is_the_seeds_and_balanced_where_asked(tmp_path: Path) -> None:
    data = vectors(tmp_path / "e")
    one, again, other = (kept(called(tmp_path / f"s{n}", Random(fraction=0.2), data, seed=seed)[0]) for n, seed in enumerate((0, 0, 1)))
    assert one == again != other
    assert np.bincount(LABEL[one]).tolist() == [6, 4, 2]
    unlabelled = Examples.write(tmp_path / "plain", data.frame().drop("label"))
    assert called(tmp_path / "u", Random(balanced=False), unlabelled, seed=0)[0].kept.rows == 6
    with pytest.raises(UserError, match="label"):
        called(tmp_path / "v", Random(), unlabelled, seed=0)


def test_without_a_model_nothing_is_scored(tmp_path: Path) -> None:
    data = vectors(tmp_path / "e")
    for number, strategy in enumerate((El2n(), Grand(), Uncertainty(), Herding(), KCenter(), Forgetting())):
        with pytest.raises(UserError, match="there is no"):
            called(tmp_path / str(number), strategy, data, ())
