"""Trying steps on single rows: the first-order influence, everything put back to the bit, and what it costs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.engines.parts import Budget, Hook, Objective, Optimizer
from paredown.engines.probing import Probes, influences
from paredown.engines.regression import fit_ridge, gumbel_top_k, hashed_ngrams
from paredown.engines.trainer import fit
from paredown.engines.training import Setup, State


class Squared(Objective):
    """Half the squared error of the rows whose weight is 1."""

    def loss(self, module: nn.Module, batch: dict[str, Any]) -> tuple[Tensor, int]:
        error = (module(batch["x"]).squeeze(-1) - batch["y"]).square() * batch["weight"] / 2
        return error.sum() / max(1, int(batch["weight"].sum())), int(batch["weight"].sum())


class Plain(Optimizer):
    """Gradient descent with a momentum, which may be nothing."""

    momentum: float = 0.0

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        made = torch.optim.SGD(module.parameters(), lr=0.0, momentum=self.momentum)
        for parameter in module.parameters():  # a number to put back, without momentum too
            made.state[parameter]["seen"] = torch.zeros(())
        return made


class Looking(Hook):
    """Calls a function once, after the third step."""

    def step(self, state: State) -> None:
        if state.step == 3:
            SEEN.append(LOOK[-1](state))


LOOK: list[Any] = []
SEEN: list[Any] = []
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 5)), RNG.normal(size=40)


class Source:
    rows = 40

    def fill(self, chosen: Any, generator: Any) -> dict[str, Any]:
        return batch(chosen)

    def column(self, name: str) -> Any:
        raise NotImplementedError


def batch(chosen: Any, weight: float = 1.0) -> dict[str, Any]:
    return {"x": X[chosen], "y": Y[chosen], "weight": np.full(len(chosen), weight)}


def looked(folder: Path, look: Any, optimizer: Any, rate: float = 1e-3, clip: float = 0.0) -> Any:
    """What `look(state)` gives in the middle of a training in float64."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 1)).double()
    module[2].p = 0.0
    setup = Setup(Squared(), optimizer, build("learn.schedules.linear"), Budget(steps=5), (Looking(),), device="cpu", precision="fp32",
                  learning_rate=rate, clip=clip)  # fmt: skip
    LOOK.append(look)
    step = Context(folder / "out", folder / "scratch", seed=0)
    with running(step):
        fit(module, lambda state: batch(np.arange(state.step, state.step + 8)), setup, seed=1, step=step, source=Source())
    return SEEN.pop()


REFERENCE = np.arange(30, 40)


def gradient(module: nn.Module, chosen: Any) -> Tensor:
    loss, _ = Squared().loss(module, {name: torch.from_numpy(v) for name, v in batch(chosen).items()})
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()))])


@pytest.mark.parametrize("rate", [1e-3, 1e-4, 1e-5])
def test_a_small_step_gains_the_product_of_the_gradients(tmp_path: Path, rate: float) -> None:
    """d(x) / (rate <g_R, g_x>) goes to 1 with the rate (Yu et al. 2024; influence to first order)."""

    def look(state: State) -> list[tuple[float, float]]:
        probes = Probes(state, [batch(REFERENCE[:6]), batch(REFERENCE[6:])])
        module = state.module.train()
        lr = state.optimizer.param_groups[0]["lr"]
        expected = [lr * float(gradient(module, REFERENCE) @ gradient(module, [row])) for row in range(10)]
        return list(zip((probes.empty() - probes.tried([batch([row]) for row in range(10)])).tolist(), expected, strict=True))

    for gain, expected in looked(tmp_path, look, Plain(), rate):
        assert gain == pytest.approx(expected, rel=200 * rate, abs=1e-14)


def state_hash(state: State) -> str:
    digest = hashlib.sha256()
    for tensor in [*state.module.state_dict().values(), *(v for e in state.optimizer.state.values() for v in e.values())]:
        digest.update(tensor.detach().numpy().tobytes())
    digest.update(torch.get_rng_state().numpy().tobytes())
    return digest.hexdigest() + str(state.optimizer.state_dict()["param_groups"])


@pytest.mark.parametrize("optimizer", [Plain(momentum=0.9), build("learn.optimizers.adamw"), build("learn.optimizers.sgd")])
def test_all_is_as_before_to_the_bit(tmp_path: Path, optimizer: Any) -> None:
    def look(state: State) -> None:
        state.module[2].p = 0.5  # type: ignore[index, union-attr]
        before = state_hash(state)
        probes = Probes(state, [batch(REFERENCE)])
        first = probes.tried([batch([row]) for row in range(5)])
        probes.empty()
        assert state_hash(state) == before
        assert state.module.training
        assert all(p.grad is None for p in state.module.parameters())
        again = probes.tried([batch([row]) for row in reversed(range(5))])
        assert again[::-1].tolist() == first.tolist(), "a probe depends on its row only"
        assert len(set(first.tolist())) == 5

    looked(tmp_path, look, optimizer, rate=0.1, clip=1.0)


def test_a_row_without_targets_gains_nothing_and_one_of_the_reference_gains(tmp_path: Path) -> None:
    def look(state: State) -> None:
        probes = Probes(state, [batch(REFERENCE)])
        nothing = probes.empty()
        assert nothing == probes.loss(), "without momentum a step on nothing is none"
        assert probes.tried([batch([0, 1], weight=0.0)])[0] == nothing
        assert probes.tried([batch(REFERENCE)])[0] < nothing
        for row in REFERENCE:
            alone = Probes(state, [batch([row])])
            assert alone.tried([batch([row])])[0] < alone.empty(), "a row gains by a step on itself"

    looked(tmp_path, look, Plain())

    def moving(state: State) -> None:
        probes = Probes(state, [batch(REFERENCE)])
        assert probes.empty() != probes.loss(), "momentum moves the weights all the same"
        assert probes.tried([batch([0], weight=0.0)])[0] == probes.empty()

    looked(tmp_path / "2", moving, build("learn.optimizers.adamw"), rate=0.1)


def test_a_killed_probing_goes_on_and_charges_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paredown.engines.probing.SAVE_EVERY", 3)
    rows = np.arange(10)

    def whole(state: State) -> tuple[Any, float]:
        probes = Probes(state, [batch(REFERENCE)])
        return influences(state, probes, rows, "stage 1"), probes.flops

    expected, flops = looked(tmp_path / "a", whole, build("learn.optimizers.adamw"))
    calls: list[int] = []

    def killed(state: State) -> tuple[Any, float]:
        real = Probes.tried

        def tried(self: Probes, some: Any) -> Any:
            calls.append(len(some))
            if len(calls) == 3:
                raise KeyboardInterrupt
            return real(self, some)

        monkeypatch.setattr(Probes, "tried", tried)
        with pytest.raises(KeyboardInterrupt):
            whole(state)
        return whole(state)

    found, again = looked(tmp_path / "b", killed, build("learn.optimizers.adamw"))
    assert found.tolist() == expected.tolist()
    assert again == flops > 0
    assert calls == [3, 3, 3, 3, 1]


# --- the prediction and the choice


def test_ridge_is_the_minimum_of_its_loss_and_finds_a_line() -> None:
    rng = np.random.default_rng(1)
    x, truth = rng.normal(size=(200, 6)) + 3, np.arange(6.0)
    found = fit_ridge(x, x @ truth + 7)
    np.testing.assert_allclose(found.weights, truth, atol=1e-3)
    assert found.predict(x[:3]) == pytest.approx(x[:3] @ truth + 7, rel=1e-3)
    y = x @ truth + rng.normal(size=200) * 5
    noisy = fit_ridge(x, y)
    centered = x - x.mean(0)
    gradient = centered.T @ (centered @ noisy.weights - (y - y.mean())) + noisy.strength * noisy.weights
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_features_count_ngrams() -> None:
    one, two, three = hashed_ngrams([np.array([1, 2, 3]), np.array([1, 2, 3, 1, 2, 3]), np.array([9, 8, 7])], 4096)
    assert np.linalg.norm(one) == pytest.approx(1)
    assert (one > 0).sum() == 5
    assert float(one @ two) > 0.9 > 0.1 > float(one @ three)


def test_gumbel_top_1_draws_by_softmax_and_has_its_limits() -> None:
    scores, rng = np.array([0.0, 1.0, 2.0, -1.0]), np.random.default_rng(0)
    draws = np.bincount([gumbel_top_k(scores, 1, rng)[0] for _ in range(100_000)], minlength=4)
    expected = 100_000 * np.exp(scores) / np.exp(scores).sum()
    assert float(((draws - expected) ** 2 / expected).sum()) < 16.27  # chi-square, 3 degrees of freedom, 0.1%
    assert gumbel_top_k(scores / 1e-6, 3, rng).tolist() == [2, 1, 0]
    even = np.bincount(np.concatenate([gumbel_top_k(scores / 1e6, 2, rng) for _ in range(40_000)]), minlength=4)
    assert float(((even - 20_000) ** 2 / 20_000).sum()) < 16.27
    assert len(set(gumbel_top_k(np.zeros(50), 20, rng).tolist())) == 20
