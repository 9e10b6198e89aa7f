"""What to train for a budget: closed form and brute force, caps, dense against sparse, and lines through measured points."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from paredown.core.errors import DataError, UserError
from paredown.engines import compute_planning as planning
from paredown.engines.compute_planning import Limits, Measured, Size
from paredown.engines.scaling_laws import Fit, Law, Run, fit

LAW = Law(1.2, 80.0, 300.0, 0.33, 0.36)
SIZES = [Size(w, 12 * w * w, 10.0 * w * w) for w in range(16, 2000, 8)]
MEASURED = Measured(tuple((s.weights, 6.0 * s.weights) for s in SIZES[:20]), 4e6)


@pytest.fixture(scope="module")
def fitted() -> Fit:
    return fit(
        [Run(n, d, float(LAW.loss(n, d))) for n, d in itertools.product(np.geomspace(1e5, 3e6, 5), np.geomspace(3e5, 4e6, 5))], resamples=30
    )


def test_cost_a_token_goes_through_the_runs_and_on_by_the_last_slope() -> None:
    measured = Measured(((1e5, 8e5), (1e5, 6e5), (1e5, 7e5), (1e6, 7e6), (4e6, 2.6e7)), 1e6)
    assert measured.flops_per_token(1e5) == pytest.approx(7e5), "the median of runs of one size"
    assert measured.flops_per_token(1e6) == pytest.approx(7e6)
    assert measured.flops_per_token(3e5) == pytest.approx(2.1e6), "a straight line of logs"
    slope = np.log(2.6e7 / 7e6) / np.log(4)
    assert measured.flops_per_token(1.6e7) == pytest.approx(2.6e7 * 4**slope)
    assert measured.flops_per_token(1e4) == pytest.approx(7e4)
    odd = Measured(((1e5, 7e5), (2e5, 5e5), (4e5, 3e6)), 1e6)
    costs = [odd.flops_per_token(n) for n in np.geomspace(5e4, 1e6, 50)]
    assert costs == sorted(costs)
    assert Measured(((1e5, 7e5),), 1e6).flops_per_token(2e5) == pytest.approx(1.4e6)


@pytest.mark.parametrize("flops", [1e12, 1e13, 1e14])
def test_the_best_dense_size_is_the_law_s_optimum(fitted: Fit, flops: float) -> None:
    """With six FLOPs a weight and token the closed form is exact; sizes are a few per cent apart."""
    found = planning.best(planning.dense(fitted, SIZES, Limits(flops=flops), MEASURED))
    assert found is not None
    n, d = fitted.law.optimum(flops)
    assert found.initial == pytest.approx(n, rel=0.15)
    assert found.tokens == pytest.approx(flops / 6 / found.initial, rel=1e-6)
    assert float(fitted.law.loss(n, d)) <= found.prediction.loss <= float(fitted.law.loss(n, d)) * 1.0005
    assert found.flops == found.counted == pytest.approx(flops)
    assert found.prediction.low <= found.prediction.loss <= found.prediction.high


@pytest.mark.parametrize("share", [0.1, 0.9, 1.5, None])
def test_the_law_s_optimum_under_a_cap_of_bytes(share: float | None) -> None:
    """Brute force over every size that the bytes hold."""
    best, _ = LAW.optimum(1e14)
    n, d = planning.optimum(LAW, 1e14, share and 4 * share * best)
    assert 6 * n * d == pytest.approx(1e14)
    tried = np.geomspace(best / 100, best * 100, 200_001)
    held = tried[tried <= (share or np.inf) * best]
    assert n == pytest.approx(held[np.argmin(LAW.loss(held, 1e14 / 6 / held))], rel=1e-3)


def test_bytes_and_speed_cap_the_size(fitted: Fit) -> None:
    free = planning.best(planning.dense(fitted, SIZES, Limits(flops=1e14), MEASURED))
    assert free is not None
    for limits, measured in (
        (Limits(flops=1e14, bytes=free.initial), MEASURED),
        (Limits(flops=1e14), Measured(MEASURED.costs, 4e6, most_weights=free.initial / 4)),
    ):
        candidates = planning.dense(fitted, SIZES, limits, measured)
        assert max(c.initial for c in candidates) <= free.initial / 4
        best = planning.best(candidates)
        assert best == max(candidates, key=lambda c: c.initial), "below the optimum the largest that fits is the best"
    assert planning.dense(fitted, SIZES, Limits(bytes=100), MEASURED) == []
    assert planning.best([]) is None
    assert {c.tokens for c in planning.dense(fitted, SIZES, Limits(bytes=4e6), MEASURED)} == {4e6}, (
        "without FLOPs: the most tokens of any run"
    )


def test_a_sparse_candidate_fits_the_bytes_and_the_flops(fitted: Fit) -> None:
    """On the schedule (0.25, 0.75, linear) the average lies half way; the FLOPs are then those of the average model."""
    pruned = ((0.5, 0.5), (0.8, 0.5))
    measured = Measured(MEASURED.costs, 4e6, pruned)
    limits = Limits(flops=1e13, bytes=8e5)
    candidates = planning.sparse(fitted, SIZES, limits, measured)
    assert candidates
    for c in candidates:
        size = next(s for s in SIZES if s.width == c.width)
        assert c.initial == size.weights > 2e5
        assert c.final == 2e5
        assert c.sparsity == pytest.approx((size.weights - 2e5) / size.prunable)
        assert 0 < c.sparsity <= 0.8
        assert c.average == pytest.approx((c.initial + c.final) / 2, rel=1e-6)
        assert c.flops == pytest.approx(1e13)
        assert c.flops == pytest.approx(6 * c.average * c.tokens, rel=1e-6), "nominal: zeros cost nothing"
        assert c.counted == pytest.approx(6 * c.initial * c.tokens, rel=1e-6), "as they are multiplied here"
        assert c.prediction.loss == pytest.approx(float(fitted.law.loss(c.average, c.tokens)))
    best, dense = planning.best(candidates), planning.best(planning.dense(fitted, SIZES, limits, measured))
    assert best
    assert dense
    value, low, high = planning.difference(fitted, best, dense)
    assert value == pytest.approx(best.prediction.loss - dense.prediction.loss)
    assert low <= value <= high
    assert best.prediction.loss < dense.prediction.loss, "more parameters on average under the same bytes, below the optimum"


def test_no_sparse_candidates_where_no_run_pruned_or_nothing_limits_the_bytes(fitted: Fit) -> None:
    assert planning.sparse(fitted, SIZES, Limits(flops=1e13, bytes=8e5), MEASURED) == []
    assert planning.sparse(fitted, SIZES, Limits(flops=1e13), Measured(MEASURED.costs, 4e6, ((0.5, 0.5),))) == []
    fast = Measured(MEASURED.costs, 4e6, ((0.5, 0.5),), most_weights=1e5)
    assert planning.sparse(fitted, SIZES, Limits(flops=1e13, bytes=8e5), fast) == [], "zeros do not decode faster"


def test_weights_in_time_are_a_line_through_the_measured_models() -> None:
    points = [(w, 0.8 + 2e-6 * w) for w in (1e5, 4e5, 1.6e6)]
    assert planning.weights_in_time(points, 4.8) == pytest.approx(2e6)
    with pytest.raises(UserError, match=r"0\.8 ms a token go by without any weights"):
        planning.weights_in_time(points, 0.7)
    with pytest.raises(DataError, match="1 sizes of models; two are needed"):
        planning.weights_in_time(points[:1] * 3, 5.0)
    flat = [(1e5, 2.0), (2e5, 1.9), (4e5, 1.8)]
    assert planning.weights_in_time(flat, 1.8) == float("inf")
    with pytest.raises(UserError, match=r"1\.8 ms a token were the least"):
        planning.weights_in_time(flat, 1.0)
