"""Which weights go: exact counts by score, over a tensor, over each row, or within groups of m along a row.

A mask is boolean, True where a weight is taken. Equal scores go by position, so that a mask depends on the scores only.
"""

from __future__ import annotations

from typing import Literal

import numpy
import torch
from torch import Tensor

from paredown.core.errors import UserError

Pattern = Literal["unstructured", "2:4", "4:8"]
LONG = 256  # scores of a row from which on equal ones cost time
PROBED = 61  # one score of so many is looked at; a prime, so that patterns in a row are not met at the same place
RUN = 8  # one equal score of so many is a long run
PATTERNS: dict[str, tuple[int, int]] = {"2:4": (2, 4), "4:8": (4, 8)}  # taken, of each m weights in a row


def lowest(scores: Tensor, count: int) -> Tensor:
    """The `count` lowest of all scores; a mask of the same shape."""
    return lowest_in_rows(scores.reshape(1, -1), count).view(scores.shape)


def lowest_in_rows(scores: Tensor, count: int) -> Tensor:
    """The `count` lowest scores of each row (last dimension)."""
    if count <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    # selecting the count-th value is several times faster than sorting; only its equals need their order
    bound = _bounds(scores, min(count, scores.shape[-1]))
    mask = scores <= bound
    surplus = _counted(mask) - count
    if bool((surplus > 0).any()):
        equal = scores == bound
        mask &= ~equal | (equal.cumsum(dim=-1, dtype=surplus.dtype) <= _counted(equal) - surplus)
    return mask


def _counted(mask: Tensor) -> Tensor:
    """How many are True in each row, with a last dimension of 1."""
    narrow = mask.shape[-1] < 2**31
    if mask.device.type != "cpu":
        return mask.sum(dim=-1, keepdim=True, dtype=torch.int32 if narrow else torch.int64)
    # numpy adds up truth values many times faster
    return torch.from_numpy(mask.numpy().sum(axis=-1, keepdims=True, dtype=numpy.int32 if narrow else numpy.int64))


def _bounds(scores: Tensor, count: int) -> Tensor:
    """The count-th lowest score of each row, with a last dimension of 1."""
    if scores.device.type != "cpu":
        return scores.kthvalue(count, dim=-1, keepdim=True).values
    # numpy selects with vector instructions, in about half of torch's time; float32 holds every narrower format exactly
    values = scores.detach().to(torch.promote_types(scores.dtype, torch.float32))
    if values.shape[-1] < LONG:
        return _selected(values, count)
    # Equal values take its selection ten times as long, and a pruned matrix has a long run of them: distinct lower ones stand in.
    least = values.amin(dim=-1, keepdim=True)
    seen = values[..., ::PROBED] == least
    if int(seen.count_nonzero()) * RUN < seen.numel():
        return _selected(values, count)
    below = least.min() - 1 - torch.arange(values.shape[-1], dtype=values.dtype)
    return torch.maximum(_selected(torch.where(values == least, below, values), count), least)


def _selected(values: Tensor, count: int) -> Tensor:
    return torch.from_numpy(numpy.partition(values.numpy(), count - 1, axis=-1)[..., count - 1 : count])


def clear(weight: Tensor, mask: Tensor) -> None:
    """Set the masked weights to zero, in place; finite weights only."""
    # five times faster on a CPU than masked_fill_, which branches at every weight; the addition turns -0.0 into 0.0
    weight.mul_(~mask).add_(0)


def lowest_in_groups(scores: Tensor, taken: int, of: int) -> Tensor:
    """The `taken` lowest scores of every `of` neighbours in a row, (rows, width); width must be a multiple of `of`.

    Raises:
        ValueError: the width is no multiple of `of`.
    """
    rows, width = scores.shape
    if width % of:
        raise ValueError(f"rows of {width} weights cannot be cut into groups of {of}")
    return lowest_in_rows(scores.view(rows, width // of, of), taken).view(rows, width)


def choose(scores: Tensor, sparsity: float, pattern: str = "unstructured", compare: str = "layer") -> Tensor:
    """What goes of a layer's scores (out_features, in_features), at a share or in a pattern.

    Unstructured: exactly the whole number below `sparsity` times the weights of the layer, or of each row where `compare` is `row`.

    Raises:
        UserError: rows cannot be cut into the groups of the pattern.
    """
    if pattern != "unstructured":
        taken, of = PATTERNS[pattern]
        if scores.shape[1] % of:
            raise UserError(
                f"the pattern {pattern} needs rows of a multiple of {of} weights, but a layer has {scores.shape[1]}",
                todo="take another pattern, or a model whose widths are multiples of it",
            )
        return lowest_in_groups(scores, taken, of)
    if compare == "row":
        return lowest_in_rows(scores, share(scores.shape[1], sparsity))
    return lowest(scores, share(scores.numel(), sparsity))


def share(count: int, sparsity: float) -> int:
    """The whole number below `sparsity` of `count`, forgiving the rounding of the product (0.7 of 10 is 7)."""
    return int(sparsity * count + 1e-9 * count)
