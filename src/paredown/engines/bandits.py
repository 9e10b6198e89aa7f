"""Which of many noisy choices are best and worst, under a budget of looks.

Arms are looked at in batches of items that come in the same order for all; an arm whose items are all seen is not pulled again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Pull = Callable[[int, int, int], Array]  # (arm, first item, behind the last item) -> which were right, booleans
Rule = Literal["thompson", "ucb", "uniform", "few_in_full"]
Ends = Literal["seen", "posterior"]  # best and worst by the mean of what was seen (as published), or by that of the Beta posterior


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    best: int
    worst: int
    pulled: Array  # items seen of each arm
    right: Array  # of them
    calls: int


def beta_prior(accuracy: float, strength: float = 5.0) -> tuple[float, float]:
    """(a, b) of the Beta distribution that Sclar et al. 2023 begin with: b = 5, a = 5 p / (1 - p), at least 1.1."""
    return max(1.1, strength * accuracy / max(1e-9, 1 - accuracy)), strength


def chance_range(arms: int, items: int, accuracy: float) -> float:
    """Expected distance between the best and the worst share of right items, where all arms have this accuracy and nothing but chance differs.

    Of independent binomial numbers X: E[max] = sum over x of 1 - P(X <= x)^arms, E[min] = sum over x of P(X > x)^arms, x from 0 to items - 1.
    """
    from scipy.stats import binom

    below = binom.cdf(np.arange(items), items, accuracy)
    return float((1 - below**arms - (1 - below) ** arms).sum() / items)


def search(
    pull: Pull,
    arms: int,
    items: int,
    budget: int,
    batch: int,
    prior: tuple[float, float],
    rule: Rule,
    generator: np.random.Generator,
    ends: Ends = "seen",
) -> Found:
    """Spend `budget` looks, half of them on the best arm and half on the worst.

    thompson pulls the arm whose draw from its Beta posterior is highest (then lowest); ucb that whose mean plus
    2 sqrt(log(1 + t) / n) is; uniform looks at all arms in turn; few_in_full at as many arms as the budget allows, whole.
    """
    seen, right = np.zeros(arms, dtype=np.int64), np.zeros(arms, dtype=np.int64)
    spent, assumed = 0, prior if ends == "posterior" else (0.0, 0.0)

    def look(arm: int, size: int) -> None:
        nonlocal spent
        end = min(items, seen[arm] + size, seen[arm] + budget - spent)
        found = pull(arm, int(seen[arm]), int(end))
        right[arm] += int(found.sum())
        spent += int(end - seen[arm])
        seen[arm] = end

    if rule in ("uniform", "few_in_full"):
        size, order = (batch, generator.permutation(arms)) if rule == "uniform" else (items, generator.permutation(arms))
        while spent < budget and (seen < items).any():
            for arm in order:
                if spent < budget and seen[arm] < items:
                    look(int(arm), size)
        return judged(seen, right, spent, assumed)
    for sign, limit in ((1, budget // 2), (-1, budget)):
        pulls = 0
        while spent < limit and (seen < items).any():
            open_ = np.flatnonzero(seen < items)
            if rule == "thompson":
                score = sign * generator.beta(prior[0] + right[open_], prior[1] + seen[open_] - right[open_])
            else:
                tried = np.maximum(seen[open_], 1)
                score = np.where(seen[open_] == 0, np.inf, sign * right[open_] / tried + 2 * np.sqrt(np.log(1 + pulls) / tried))
            look(int(open_[int(score.argmax())]), min(batch, limit - spent))
            pulls += 1
    return judged(seen, right, spent, assumed)


def judged(seen: Array, right: Array, calls: int, assumed: tuple[float, float]) -> Found:
    """Best and worst of the arms that were pulled, with so many right and wrong items assumed of each beforehand."""
    mean = np.where(seen > 0, (right + assumed[0]) / np.maximum(seen + sum(assumed), 1), np.nan)
    return Found(int(np.nanargmax(mean)), int(np.nanargmin(mean)), seen, right, calls)
