"""The sweep against the closed form of Optimal Brain Surgeon, in float64 on small layers."""

from __future__ import annotations

import itertools

import pytest
import torch

from paredown.core.errors import DataError
from paredown.engines import compensation
from paredown.engines.compensation import inverse_factor, sweep
from paredown.prune.sparsegpt import sparsegpt

WIDTH = 12


def problem(rows: int = 5, tokens: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """(weight, inputs) with correlated features."""
    generator = torch.Generator().manual_seed(3)
    mix = torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64)
    return torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64), torch.randn(
        tokens, WIDTH, generator=generator, dtype=torch.float64
    ) @ mix


def column_by_column(weight: torch.Tensor, hessian: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Take masked weights from left to right; each time the weights to the right become the exact optimum given what changed before.

    Removing feature j from the inverse by Gaussian elimination (arXiv 2301.00774, eq. 4): no Cholesky factor is involved.
    """
    out = weight.clone()
    for row in range(weight.shape[0]):
        inverse = torch.linalg.inv(hessian)
        for j in range(weight.shape[1]):
            if masks[row, j]:
                out[row, j:] -= out[row, j] / inverse[0, 0] * inverse[0]
                out[row, j] = 0
            inverse = (inverse - torch.outer(inverse[:, 0], inverse[0]) / inverse[0, 0])[1:, 1:]
    return out


def test_the_factor_is_that_of_the_damped_inverse():
    _, x = problem()
    gram = x.T @ x
    upper = inverse_factor(gram, 0.01)
    damped = gram + 0.01 * gram.diagonal().mean() * torch.eye(WIDTH, dtype=torch.float64)
    assert torch.equal(upper, upper.triu())
    assert torch.allclose(upper.T @ upper, torch.linalg.inv(damped), rtol=1e-9)


@pytest.mark.parametrize("columns", [1, 4, 5, 12, 128])
def test_a_sweep_equals_gaussian_elimination(columns):
    weight, x = problem()
    gram = x.T @ x
    upper = inverse_factor(gram, 1e-6)
    hessian = torch.linalg.inv(upper.T @ upper)
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(5)) < 0.5
    expected = column_by_column(weight, hessian, mask)
    done, begin = weight.clone(), itertools.count(0, columns)

    def given(part: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor:
        start = next(begin)
        return mask[:, start : start + part.shape[1]]

    assert torch.equal(sweep(done, upper, given, columns), mask)
    assert torch.allclose(done, expected, atol=1e-9)
    assert not done[mask].any()


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.75])
def test_the_mask_is_that_of_algorithm_1(sparsity):
    """Replayed with plain loops: choose in a block of columns by (w / U_jj)^2, then take, then go on."""
    weight, x = problem(rows=8)
    upper = inverse_factor(x.T @ x, 0.01)
    replay, expected = weight.clone(), torch.zeros(weight.shape, dtype=torch.bool)
    for begin in (0, 4, 8):
        block = range(begin, begin + 4)
        scores = {(r, j): float((replay[r, j] / upper[j, j]) ** 2) for r in range(8) for j in block}
        for r, j in sorted(scores, key=lambda place: scores[place])[: int(sparsity * len(scores))]:
            expected[r, j] = True
        for j in block:
            for r in range(8):
                if expected[r, j]:
                    replay[r, j:] -= replay[r, j] / upper[j, j] * upper[j, j:]
                    replay[r, j] = 0
    done = weight.clone()
    mask = sparsegpt(done, upper, sparsity, columns=4)
    assert torch.equal(mask, expected)
    assert torch.allclose(done, replay, atol=1e-10)


@pytest.mark.parametrize(("pattern", "taken", "of"), [("2:4", 2, 4), ("4:8", 4, 8)])
def test_a_pattern_holds_in_every_group(pattern, taken, of):
    weight = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    x = torch.randn(100, 16, generator=torch.Generator().manual_seed(1))
    sparsegpt(weight, inverse_factor(x.T @ x, 0.01), 0.5, pattern)
    assert ((weight == 0).view(6, 16 // of, of).sum(-1) == taken).all()


def test_it_is_better_than_zeroing_the_same_weights():
    weight, x = problem(rows=20)
    done = weight.clone()
    mask = sparsegpt(done, inverse_factor(x.T @ x, 0.01), 0.5)
    error = ((done - weight) @ x.T).square().sum()
    plain = ((weight.masked_fill(mask, 0) - weight) @ x.T).square().sum()
    # and never better than the best weights for this mask, which least squares gives row by row
    best = 0.0
    for w, m in zip(weight, mask, strict=True):
        fitted = torch.linalg.lstsq(x[:, ~m], (x @ w)[:, None]).solution[:, 0]
        best += float((x[:, ~m] @ fitted - x @ w).square().sum())
    assert best - 1e-9 <= float(error) < 0.9 * float(plain)


def test_features_that_are_never_there_and_hopeless_inputs():
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    x[:, 2] = 0
    assert torch.isfinite(inverse_factor(x.T @ x, 0.01)).all()
    assert torch.isfinite(inverse_factor(torch.zeros(4, 4), 0.01)).all()
    with pytest.raises(DataError, match="positive definite"):
        inverse_factor(torch.tensor([[1.0, 9.0], [9.0, -1e9]]), 1e-12)


@pytest.mark.parametrize(("columns", "width"), [(128, 300), (4, 300), (5, 261), (300, 300)])
def test_a_wide_float32_layer_against_a_dense_float64_reference(columns, width):
    """Errors go right inside a stretch of columns by the kernel and beyond it by a product; together they are elimination."""
    generator = torch.Generator().manual_seed(columns)
    x = torch.randn(4 * width, width, generator=generator, dtype=torch.float64) @ torch.randn(
        width, width, generator=generator, dtype=torch.float64
    )
    weight = torch.randn(7, width, generator=generator, dtype=torch.float64)
    mask = torch.rand(weight.shape, generator=generator) < 0.5
    gram = x.T @ x
    upper = inverse_factor(gram.float(), 0.01)
    damped = gram + 0.01 * gram.diagonal().mean() * torch.eye(width, dtype=torch.float64)
    expected = column_by_column(weight, damped, mask)
    done, begin = weight.float(), itertools.count(0, columns)

    def given(part: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor:
        start = next(begin)
        assert torch.equal(diagonal, upper.diagonal()[start : start + part.shape[1]])
        return mask[:, start : start + part.shape[1]]

    sweep(done, upper, given, columns)
    assert not done[mask].any()
    assert float((done - expected).norm() / expected.norm()) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("at", [0, 3, 40])
def test_the_kernel_does_what_the_tensor_operations_do(dtype, at):
    generator = torch.Generator().manual_seed(at)
    part = torch.randn(9, 70, generator=generator, dtype=dtype)
    factor = (0.1 * torch.randn(70, 70, generator=generator, dtype=dtype)).triu(1) + torch.eye(70, dtype=dtype)
    mask = torch.rand(9, 20, generator=generator) < 0.6
    results = []
    for take in (compensation._take, compensation._take_on_cpu):
        changed, errors = part.clone(), torch.zeros_like(part)
        take(changed, factor, mask, at, errors)
        results.append((changed, errors))
    assert torch.equal(results[1][0][:, :at], part[:, :at])
    for slow, fast in zip(*results, strict=True):
        assert torch.allclose(slow, fast, rtol=1e-4 if dtype is torch.float32 else 1e-12)


def test_a_transposed_weight_is_changed_in_place():
    weight, x = problem()
    upper = inverse_factor(x.T @ x, 0.01)
    stored = weight.T.contiguous()
    mask = sparsegpt(stored.T, upper, 0.5)
    plain = weight.clone()
    assert torch.equal(sparsegpt(plain, upper, 0.5), mask)
    assert torch.equal(stored.T, plain)


@pytest.mark.parametrize("width", [1, 127, 128, 129, 700])
def test_the_factor_of_wide_matrices(width):
    generator = torch.Generator().manual_seed(width)
    x = torch.randn(3 * width, width, generator=generator, dtype=torch.float64)
    upper = inverse_factor(x.T @ x, 0.01)
    damped = x.T @ x + 0.01 * (x.T @ x).diagonal().mean() * torch.eye(width, dtype=torch.float64)
    assert torch.equal(upper, upper.triu())
    assert torch.allclose(upper @ damped @ upper.T, torch.eye(width, dtype=torch.float64), atol=1e-9)
