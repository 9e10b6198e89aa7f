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
NEAR = 128  # columns whose errors are kept together
SMALL = 128  # triangles of this width are inverted by substitution


def inverse_factor(gram: Tensor, damping: float) -> Tensor:
    """Upper Cholesky factor U of (H + damping mean(diag H) I)^-1, so that U^T U is the inverse; shape and dtype of `gram`.

    Features that never were anything but zero get a one on the diagonal. Where the matrix is still not positive definite, the
    damping grows tenfold.

    Raises:
        DataError: no damping helps; the inputs are not usable.
    """
    hessian = gram.flip(0, 1)
    diagonal = hessian.diagonal()
    diagonal[diagonal == 0] = 1
    step = damping * float(diagonal.mean())
    for _ in range(TRIES):
        diagonal += step
        factor, failed = torch.linalg.cholesky_ex(hessian)
        if not int(failed):
            # with both axes flipped back the lower factor becomes R, upper, with H = R R^T; so H^-1 = R^-T R^-1 and U is R^-1.
            # H^-1 itself is never formed: half the work of two factorizations and an inverse, and a smaller error
            return _inverse_of_upper(factor.flip(0, 1))
        step *= 10
    raise DataError("the inputs of a layer give no positive definite matrix, whatever the damping", todo="calibrate on more tokens")


def _inverse_of_upper(upper: Tensor) -> Tensor:
    """The inverse of an upper triangular matrix, by halves: substitution against the identity would multiply its zeros."""
    width = upper.shape[0]
    if width <= SMALL:
        inverse: Tensor = torch.linalg.solve_triangular(upper, torch.eye(width, dtype=upper.dtype, device=upper.device), upper=True)
        return inverse
    half = width // 2
    inverse = torch.zeros_like(upper)
    left, right = _inverse_of_upper(upper[:half, :half]), _inverse_of_upper(upper[half:, half:])
    inverse[:half, :half], inverse[half:, half:] = left, right
    inverse[:half, half:] = -(left @ upper[:half, half:]) @ right
    return inverse


def sweep(weight: Tensor, upper: Tensor, choose: Callable[[Tensor, Tensor], Tensor], columns: int) -> Tensor:
    """Go over `weight` (rows, width) from left to right, `columns` at a time, in place; the mask of what was taken.

    `choose(part, diagonal)` gets the next columns as they stand by then, (rows, n), and their part of the factor's diagonal, (n,), and
    gives the mask of what to take there. Each weight taken is made good by those to its right.
    """
    rows, width = weight.shape
    work = weight.contiguous()
    taken = torch.zeros(rows, width, dtype=torch.bool, device=weight.device)
    take = _take_on_cpu if weight.device.type == "cpu" else _take
    wide = columns * max(1, NEAR // columns)  # columns further right get the errors of so many columns in one product
    for begin in range(0, width, wide):
        end = min(begin + wide, width)
        part, factor = work[:, begin:end].contiguous(), upper[begin:end, begin:end].contiguous()
        errors = torch.zeros_like(part)
        for at in range(0, end - begin, columns):
            now = slice(at, min(at + columns, end - begin))
            mask = choose(part[:, now], factor.diagonal()[now])
            take(part, factor, mask, at, errors)
            taken[:, begin:end][:, now] = mask
        work[:, begin:end] = part
        if end < width:
            work[:, end:].addmm_(errors, upper[begin:end, end:], alpha=-1)
    if work.data_ptr() != weight.data_ptr():
        weight.copy_(work)
    return taken


def _take(part: Tensor, factor: Tensor, mask: Tensor, at: int, errors: Tensor) -> None:
    """Take the masked weights of the columns of `part` from `at` on, and let all columns of `part` to the right make them good.

    In place; `mask` is (rows, n), and `errors`, as wide as `part`, gets w_j / U_jj of what was taken.
    """
    columns = part[:, at:].T.contiguous()  # one row a column: every step below works on adjacent memory
    for j in range(mask.shape[1]):
        error = torch.where(mask[:, j], columns[j], 0) / factor[at + j, at + j]
        columns[j:].addr_(factor[at + j, at + j :], error, alpha=-1)
        columns[j].masked_fill_(mask[:, j], 0)
        errors[:, at + j] = error
    part[:, at:] = columns.T


def _take_on_cpu(part: Tensor, factor: Tensor, mask: Tensor, at: int, errors: Tensor) -> None:
    """The same, row by row: a row stays in the cache, and only what is taken costs anything."""
    from paredown.engines.kernels_compensation import take

    take(part.numpy(), factor.numpy(), mask.contiguous().numpy(), at, errors.numpy())
