"""How many units each block keeps, and which of all: whole numbers that add up, and choices over the blocks together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def apportioned(wanted: Sequence[float], most: Sequence[int], total: int, multiple: int = 1) -> list[int]:
    """Whole multiples in proportion to what is wanted that add up to `total`, from one multiple to `most` each.

    What is left over after rounding down goes to the largest remainders, of equals to the first; a part that may not be larger or
    smaller passes it on. A total that is no multiple is rounded to one; where `most` is none, a part may have all of it.
    """
    if total >= sum(most):
        return list(most)
    sizes = [max(1, math.ceil(limit / multiple)) for limit in most]
    aim = min(max(round(total / multiple), len(sizes)), sum(sizes))
    exact = [min(max(value * aim / sum(wanted), 1.0), float(size)) for value, size in zip(wanted, sizes, strict=True)]
    found = [int(value + 1e-9) for value in exact]
    while missing := aim - sum(found):
        step = 1 if missing > 0 else -1
        free = [n for n, size in enumerate(sizes) if 1 <= found[n] + step <= size]
        found[max(free, key=lambda n: (step * (exact[n] - found[n]), -n))] += step
    return [min(count * multiple, limit) for count, limit in zip(found, most, strict=True)]


def standardised(scores: Tensor) -> Tensor:
    """Scores of a block with mean 0 and variance 1, so that blocks can be compared; zeros where all are equal."""
    spread = scores.std() if scores.numel() > 1 else scores.new_zeros(())
    centred = scores - scores.mean()
    return centred / spread if float(spread) > 0 else torch.zeros_like(scores)


def best(scores: Tensor, count: int) -> Tensor:
    """Indices of the best units, ascending; of equals the first."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values


def best_of_all(scores: Sequence[Tensor], costs: Sequence[float], budget: float, least: int = 1) -> list[Tensor]:
    """The best units over all groups whose costs come nearest to the budget, of each group its `least` best ones at least.

    `costs` is what a unit of each group costs.

    Returns:
        for each group the indices that stay, ascending; of equals the first.
    """
    values = torch.cat(list(scores)).double()
    first = torch.tensor([0, *(len(group) for group in scores)]).cumsum(0)
    cost = torch.cat([torch.full((len(group),), float(price), dtype=torch.double) for group, price in zip(scores, costs, strict=True)])
    forced = torch.zeros(len(values), dtype=torch.bool)
    for group, begin in zip(scores, first[:-1].tolist(), strict=True):
        forced[begin + best(group, least)] = True
    order = torch.where(forced, torch.inf, values).argsort(descending=True, stable=True)
    count = max(int((cost[order].cumsum(0) - budget).abs().argmin()) + 1, int(forced.sum()))
    stays = order[:count].sort().values
    return [stays[(stays >= a) & (stays < b)] - a for a, b in zip(first[:-1].tolist(), first[1:].tolist(), strict=True)]
