"""The search for best and worst arms: posteriors in closed form, budgets kept, nothing pulled twice, better than its rivals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paredown.engines.bandits import Found, beta_prior, chance_range, judged, search

RULES = ("thompson", "ucb", "uniform", "few_in_full")


def outcomes(arms: int, items: int, seed: int, low: float = 4, high: float = 4) -> Any:
    rng = np.random.default_rng(seed)
    return rng.random((arms, items)) < rng.beta(low, high, arms)[:, None]


def run(table: Any, budget: int, rule: Any, seed: int = 0, batch: int = 20) -> tuple[Found, list[tuple[int, int, int]]]:
    pulls: list[tuple[int, int, int]] = []

    def pull(arm: int, begin: int, end: int) -> Any:
        pulls.append((arm, begin, end))
        return table[arm, begin:end]

    arms, items = table.shape
    return search(pull, arms, items, budget, batch, beta_prior(0.5), rule, np.random.default_rng(seed)), pulls


def test_the_prior_is_the_published_one() -> None:
    assert beta_prior(0.8) == pytest.approx((20.0, 5.0))
    assert beta_prior(0.1) == (1.1, 5.0)
    assert beta_prior(1.0)[1] == 5.0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("budget", [30, 1000, 10**6])
def test_items_come_in_order_once_and_the_budget_holds(rule: str, budget: int) -> None:
    table = outcomes(12, 130, 1)
    found, pulls = run(table, budget, rule)
    seen = [0] * 12
    for arm, begin, end in pulls:
        assert begin == seen[arm] < end <= 130, "an arm that was seen whole is not pulled again"
        seen[arm] = end
    assert found.pulled.tolist() == seen
    assert found.calls == sum(seen) == min(budget, 12 * 130)
    assert found.right.tolist() == [int(table[arm, :n].sum()) for arm, n in enumerate(seen)]
    if budget == 10**6:
        means = table.mean(1)
        assert (means[found.best], means[found.worst]) == (means.max(), means.min()), "with budget enough it is the full grid"


def test_one_arm_has_no_spread() -> None:
    found, _ = run(outcomes(1, 100, 0), 60, "thompson")
    assert found.best == found.worst == 0


@pytest.mark.parametrize(("arms", "items", "accuracy"), [(1, 50, 0.7), (2, 1, 0.5), (101, 200, 0.9), (30, 60, 1.0)])
def test_what_chance_alone_spreads(arms: int, items: int, accuracy: float) -> None:
    shares = np.random.default_rng(0).binomial(items, accuracy, (20_000, arms)) / items
    ranges = shares.max(1) - shares.min(1)
    assert chance_range(arms, items, accuracy) == pytest.approx(ranges.mean(), abs=4 * ranges.std() / 20_000**0.5 + 1e-12)


def test_the_posterior_is_swayed_less_by_few_items() -> None:
    """Of arms with 20 of 20, 0 of 4 and 20 of 60 right, and one that was never pulled, the second is worst by what was seen, not by the posterior."""
    seen, right = np.array([20, 4, 60, 0]), np.array([20, 0, 20, 0])
    assert judged(seen, right, 84, (0.0, 0.0)).worst == 1
    assert judged(seen, right, 84, (20.0, 5.0)).worst == 2, "40 / 85 against 20 / 29"
    assert judged(seen, right, 84, (20.0, 5.0)).best == 0
    table = outcomes(12, 130, 1)
    for ends, assumed in (("seen", (0.0, 0.0)), ("posterior", beta_prior(0.5))):
        found = search(lambda a, i, j: table[a, i:j], 12, 130, 300, 10, beta_prior(0.5), "thompson", np.random.default_rng(0), ends)  # type: ignore[arg-type]
        again = judged(found.pulled, found.right, found.calls, assumed)
        assert (found.best, found.worst) == (again.best, again.worst)


def test_a_pull_follows_the_beta_posterior() -> None:
    """Two arms of known counts: how often Thompson takes the first is the probability that its Beta is higher."""
    rng = np.random.default_rng(0)
    table = np.zeros((2, 60), dtype=bool)
    table[0, :12], table[1, :7] = True, True
    a, b = beta_prior(0.5)
    chance = (rng.beta(a + 12, b + 8, 200_000) > rng.beta(a + 7, b + 13, 200_000)).mean()
    first = []
    for seed in range(3000):
        calls: list[int] = []

        def pull(arm: int, begin: int, end: int, calls: list[int] = calls) -> Any:
            calls.append(arm)
            right = {0: 12, 1: 7}[arm] if begin == 0 else 0
            return np.arange(end - begin) < right

        search(pull, 2, 60, 120, 20, (a, b), "thompson", np.random.default_rng(seed))
        if sorted(calls[:2]) == [0, 1]:
            first.append(calls[2] == 0)
    assert len(first) > 1000
    assert abs(np.mean(first) - chance) < 4 * (0.25 / len(first)) ** 0.5


def test_every_draw_is_from_beta_of_the_prior_and_of_what_was_seen() -> None:
    """Beta(a + right, b + wrong), to the number, of the arms that have items left; the highest draw is pulled, then the lowest."""
    table, (a, b) = outcomes(5, 60, 2), beta_prior(0.7)
    seen, right = np.zeros(5, dtype=int), np.zeros(5, dtype=int)
    wanted: list[int] = []

    class Noting:
        """A generator whose draws are looked at."""

        def __init__(self) -> None:
            self.inner = np.random.default_rng(0)

        def beta(self, first: Any, second: Any) -> Any:
            left = np.flatnonzero(seen < 60)
            assert first.tolist() == (a + right[left]).tolist()
            assert second.tolist() == (b + seen[left] - right[left]).tolist()
            drawn = self.inner.beta(first, second)
            wanted.append(int(left[drawn.argmax() if seen.sum() < 120 else drawn.argmin()]))
            return drawn

    def pull(arm: int, begin: int, end: int) -> Any:
        assert (arm, begin) == (wanted[-1], seen[arm])
        seen[arm] = end
        right[arm] = table[arm, :end].sum()
        return table[arm, begin:end]

    found = search(pull, 5, 60, 240, 20, (a, b), "thompson", Noting())  # type: ignore[arg-type]
    assert found.calls == seen.sum() == 240
    assert len(wanted) == 240 // 20
    assert (seen == 60).any(), "an arm was seen whole, so that it could be pulled again"


def test_thompson_finds_more_of_the_spread_than_its_rivals() -> None:
    """The card's proof without a model: 320 arms of 1,000 items, an eighth of the grid in calls, ends looked at whole afterwards."""
    errors: dict[str, list[float]] = {rule: [] for rule in RULES}
    for seed in range(12):
        table = outcomes(320, 1000, seed, 30, 20)
        means = table.mean(1)
        for rule in RULES:
            found, _ = run(table, 40_000, rule, seed)
            errors[rule].append(means.max() - means.min() - (means[found.best] - means[found.worst]))
    mean = {rule: float(np.mean(some)) for rule, some in errors.items()}
    assert mean["thompson"] < min(mean["uniform"], mean["few_in_full"])
    assert mean["thompson"] < 0.02
