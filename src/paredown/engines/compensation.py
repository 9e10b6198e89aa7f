"""Removing weights one after another, each removal made good by the weights to its right (Optimal Brain Surgeon).

For a layer with inputs X the error is || W X - W' X ||^2, whose Hessian for every row is H = X X^T. With U the upper Cholesky factor of
H^-1, taking weight j of a row costs (w_j / U_jj)^2 and the best change of the weights k > j is -(w_j / U_jj) U_jk
(Frantar and Alistarh 2023, arXiv 2301.00774, eqs. 3 and 4 with the factor of arXiv 2210.17323, section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from paredown.core.errors import DataError

TRIES = 6  # each with ten times the damping of the one before


def inverse_factor(gram: Tensor, damping: float) -> Tensor:
    """Upper Cholesky factor U of (H + damping mean(diag H) I)^-1, so that U^T U is the inverse; shape and dtype of `gram`.

    Features that never were anything but zero get a one on the diagonal. Where the matrix is still not positive definite, the
    damping grows tenfold.

    Raises:
        DataError: no damping helps; the inputs are not usable.
    """
    hessian = gram.clone()
    diagonal = hessian.diagonal()
    diagonal[diagonal == 0] = 1
    step = damping * float(diagonal.mean())
    for _ in range(TRIES):
        diagonal += step
        factor, failed = torch.linalg.cholesky_ex(hessian)
        if not int(failed):
            # U^T U = (L L^T)^-1; flipping both axes turns a lower factor into the upper one of the reversed matrix
            inverse = torch.cholesky_inverse(factor)
            upper: Tensor
            upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if not int(failed):
                return upper
        step *= 10
    raise DataError("the inputs of a layer give no positive definite matrix, whatever the damping", todo="calibrate on more tokens")


def sweep(weight: Tensor, upper: Tensor, choose: Callable[[Tensor, Tensor], Tensor], columns: int) -> Tensor:
    """Go over `weight` (rows, width) from left to right, `columns` at a time, in place; the mask of what was taken.

    `choose(part, diagonal)` gets the next columns as they stand by then, (rows, n), and their part of the factor's diagonal, (n,), and
    gives the mask of what to take there. Each weight taken is made good by those to its right.
    """
    rows, width = weight.shape
    taken = torch.zeros(rows, width, dtype=torch.bool, device=weight.device)
    for begin in range(0, width, columns):
        end = min(begin + columns, width)
        part, factor = weight[:, begin:end], upper[begin:end, begin:end]
        mask = choose(part, factor.diagonal())
        taken[:, begin:end] = mask
        errors = _inside(part, factor, mask)
        if end < width:
            weight[:, end:].addmm_(errors, upper[begin:end, end:], alpha=-1)
    return taken


def _inside(part: Tensor, factor: Tensor, mask: Tensor) -> Tensor:
    """Take the masked weights of a few columns, in place; the scaled errors (rows, n) that columns further right answer for."""
    errors = torch.zeros_like(part)
    columns = part.T.contiguous()  # one row a column: every step below works on adjacent memory
    for j in range(part.shape[1]):
        error = torch.where(mask[:, j], columns[j], 0) / factor[j, j]
        columns[j:].addr_(factor[j, j:], error, alpha=-1)
        columns[j][mask[:, j]] = 0
        errors[:, j] = error
    part.copy_(columns.T)
    return errors
