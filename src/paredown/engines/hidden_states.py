"""How much a block does to what passes through it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def change(before: Tensor, after: Tensor, metric: str = "angular") -> float:
    """How much hidden states (..., width) change, summed over the tokens.

    `angular` is arccos(cos(before, after)) / pi: 0 where nothing changes, 1 where the sign does; `cosine` is 1 - cos(before, after); `mse` and
    `mae` are means over the width; `constant` is 1.
    """
    x, y = before.float().flatten(0, -2), after.float().flatten(0, -2)
    if metric == "constant":
        return float(len(x))
    if metric in ("mse", "mae"):
        change = (x - y).square() if metric == "mse" else (x - y).abs()
        return float(change.mean(dim=1).double().sum())
    x, y = torch.nn.functional.normalize(x, dim=1), torch.nn.functional.normalize(y, dim=1)
    if metric == "cosine":
        return float((1 - (x * y).sum(dim=1)).double().sum())
    # the arc cosine of a rounded 1 is far from 0; this form of the angle is exact there
    return float((2 * torch.atan2((x - y).norm(dim=1), (x + y).norm(dim=1)) / math.pi).double().sum())
