"""Span corruption and prefixes: closed forms, exact fractions, every chunk put together again, all ways to cut equally likely."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest

from paredown.core.errors import DataError, UserError
from paredown.engines import denoising
from paredown.engines.batches import IGNORED, randomness
from paredown.engines.denoising import Corrupted, Kind, span_bounds, spans, take_out

MARKS = np.arange(1000, 1300)
END, MODE = 0, 7


def taken(chunk: Any, bounds: Any, marks: Any = MARKS, mode: int = -1) -> tuple[list[int], list[int]]:
    inputs, targets = np.zeros(3 * len(chunk) + 3, dtype=np.int64), np.zeros(3 * len(chunk) + 3, dtype=np.int64)
    size, made = take_out(chunk, bounds, marks, mode, END, inputs, targets)
    return inputs[:size].tolist(), targets[:made].tolist()


def merged(inputs: list[int], targets: list[int]) -> list[int]:
    """Every sentinel of the input replaced by what stands behind it in the target."""
    assert targets[-1] == END
    behind: dict[int, list[int]] = {}
    for token in targets[:-1]:
        if token in MARKS:
            behind[token] = []
        else:
            behind[max(behind)].append(token)
    found: list[int] = []
    for token in inputs:
        found += behind.pop(token) if token in MARKS else [token]
    assert not behind, "every sentinel of the target stands in the input"
    return found


@pytest.mark.parametrize(
    ("length", "mean", "rate", "expected"),
    [(20, 3, 0.15, (3, 1)), (512, 64, 0.5, (256, 4)), (512, 3, 0.5, (256, 85)), (2, 3, 0.15, (1, 1)), (10, 1, 0.9, (9, 1)), (9, 0.1, 0.4, (4, 4))],
)  # fmt: skip
def test_numbers_of_tokens_and_spans_in_closed_form(length: int, mean: float, rate: float, expected: tuple[int, int]) -> None:
    assert spans(length, mean, rate) == expected


def test_a_thousand_random_chunks_are_put_together_again() -> None:
    draw = np.random.default_rng(0)
    for _ in range(1000):
        length, mean, rate = int(draw.integers(2, 400)), float(draw.uniform(1, 70)), float(draw.uniform(0.01, 0.99))
        noise, count = spans(length, mean, rate)
        bounds = span_bounds(length, noise, count, draw.random(length))
        chunk = draw.integers(1, 999, length)
        inputs, targets = taken(chunk, bounds)
        assert merged(inputs, targets) == chunk.tolist()
        assert (bounds[:, 1] - bounds[:, 0]).sum() == noise == min(max(round(length * rate), 1), length - 1)
        assert sum(token in MARKS for token in inputs) == sum(token in MARKS for token in targets) == count == len(bounds)
        assert (np.concatenate([[0], bounds[:-1, 1]]) < bounds[:, 0]).all(), "a kept token before every span"
        assert bounds[-1, 1] == length
        assert (len(inputs), len(targets)) == (length - noise + count, noise + count + 1)


def test_all_ways_to_cut_are_equally_likely() -> None:
    draw = np.random.default_rng(1)
    seen = Counter(tuple(span_bounds(9, 4, 3, draw.random(9)).ravel().tolist()) for _ in range(18_000))
    assert len(seen) == 6 * 3  # five kept tokens into three stretches, and four taken ones into three spans
    assert max(abs(n - 1000) for n in seen.values()) < 5 * 1000**0.5


def test_a_prefix_of_s_tokens_has_a_target_of_the_others() -> None:
    chunk = np.arange(1, 21)
    for split in (1, 7, 19):
        inputs, targets = taken(chunk, np.array([[split, 20]]), MARKS[:0], MODE)
        assert inputs == [MODE, *range(1, split + 1)]
        assert targets == [*range(split + 1, 21), END]


@pytest.mark.parametrize("budget", [16, 64, 128, 512])
@pytest.mark.parametrize(("mean", "rate"), [(3, 0.15), (8, 0.15), (3, 0.5), (8, 0.5), (64, 0.15), (64, 0.5)])
@pytest.mark.parametrize("mode", [True, False])
def test_a_chunk_is_the_longest_whose_input_and_target_fit(budget: int, mean: float, rate: float, mode: bool) -> None:
    def read(length: int) -> int:
        noise, count = spans(length, mean, rate)
        return (mode + length - noise + count) + (noise + count + 1)

    found = denoising.raw_length(budget, mean, rate, mode)
    assert read(found) <= budget
    assert all(read(length) > budget for length in range(found + 1, budget))


def kind(
    length: int, family: int = 0, mean: float = 3.0, rate: float = 0.15, weight: float = 1.0, mode: int = -1, prefix: bool = False
) -> Kind:
    return Kind(family, mean, rate, weight, mode, prefix, length)


def rows(kinds: list[Kind], layout: Any = None, tokens: int = 1000) -> denoising.DenoisingRows:
    return denoising.DenoisingRows(
        np.arange(1, tokens + 1, dtype=np.uint16), kinds, (2000 + MARKS).tolist(), END, layout or (lambda found: found)
    )


def test_rows_cover_the_stream_and_depend_on_their_generator_only() -> None:
    source = rows([kind(60), kind(50, 2, rate=0.5, mode=MODE)])
    assert (source.chunk, source.rows) == (60, 17)
    first, again, other = (source.corrupted(np.arange(17), randomness(seed, 3)) for seed in (0, 0, 1))
    for name in ("inputs", "sizes", "targets", "made", "family"):
        assert (getattr(first, name) == getattr(again, name)).all()
    assert any((getattr(first, name) != getattr(other, name)).any() for name in ("inputs", "family"))
    seen = set()
    for seed in range(60):
        found = source.corrupted(np.arange(17), randomness(seed, 0))
        for row in range(17):
            tokens = {*found.inputs[row, : found.sizes[row]].tolist(), *found.targets[row, : found.made[row]].tolist()} - {END}
            text = sorted(t for t in tokens if t < 2000)
            begin = min(row * 60, 940)
            assert set(text) - {MODE} <= set(range(begin + 1, begin + 61))
            seen |= set(text)
    assert seen == set(range(1, 1001))


def test_kinds_are_drawn_by_weight_and_targets_after_a_prefix_evenly() -> None:
    source = rows([kind(60, 0, weight=3), kind(60, 1, rate=0.25, prefix=True), kind(60, 2, weight=0.5)])
    found = source.corrupted(np.zeros(9000, dtype=np.int64), np.random.default_rng(0))
    counts = np.bincount(found.family)
    assert counts / 9000 == pytest.approx([3 / 4.5, 1 / 4.5, 0.5 / 4.5], abs=0.02)
    made = found.made[found.family == 1] - 1
    assert set(made.tolist()) == set(range(1, 30))  # 1 to 29, on average a quarter of 60
    assert (found.sizes[found.family == 1] + made == 60).all()


def test_few_tokens_and_few_sentinels_are_told() -> None:
    with pytest.raises(DataError, match="50 tokens, and a chunk takes 60"):
        rows([kind(60)], tokens=50)
    with pytest.raises(UserError, match="23 gaps need 23 sentinels, but the vocabulary has 2"):
        denoising.DenoisingRows(np.arange(1000), [kind(140, rate=0.5)], [1, 2], END, lambda found: {})


KINDS = [
    *(kind(denoising.raw_length(64, mean, rate, True), family, mean, rate, mode=MODE) for family, mean, rate in ((0, 3, 0.15), (2, 3, 0.5), (2, 8, 0.5))),
    kind(62, 1, rate=0.25, mode=MODE, prefix=True),
]  # fmt: skip


def both(layout: Any, count: int = 25) -> tuple[Corrupted, Any]:
    source = rows(KINDS)
    found = source.corrupted(np.arange(count) % source.rows, randomness(0, 0))
    return found, layout(found)


def test_a_decoders_row_is_input_and_target_and_hardly_padded() -> None:
    found, batch = both(partial(denoising.for_decoder, width=64))
    for row in range(25):
        inputs, targets = found.inputs[row, : found.sizes[row]].tolist(), found.targets[row, : found.made[row]].tolist()
        text = inputs + targets
        assert batch["ids"][row].tolist() == text[:-1] + [0] * (65 - len(text))
        asked = batch["targets"][row]
        assert asked[asked != IGNORED].tolist() == targets
        assert (asked[: len(inputs) - 1] == IGNORED).all()
        assert batch["prefix"][row] == len(inputs)
        assert (batch["family"][row] == found.family[row]).all()
    assert batch["read"].tolist() == (found.sizes + found.made).tolist()
    assert 0.97 < batch["read"].sum() / batch["ids"].size <= 1


@pytest.mark.parametrize("together", [1, 2, 3])
def test_an_encoder_decoders_rows_hold_every_example_once(together: int) -> None:
    found, batch = both(partial(denoising.for_encoder_decoder, start=9, together=together))
    seen = []
    for row in range(len(batch["ids"])):
        for part in range(1, together + 1):
            read, made = batch["segments"][row] == part, batch["answer_segments"][row] == part
            if not read.any():
                continue
            targets = batch["targets"][row, made].tolist()
            seen.append((batch["ids"][row, read].tolist(), targets, int(batch["family"][row, made][0])))
            assert batch["answers"][row, made].tolist() == [9, *targets[:-1]]
        assert (batch["targets"][row, batch["answer_segments"][row] == 0] == IGNORED).all()
    wanted = [
        (found.inputs[n, : found.sizes[n]].tolist(), found.targets[n, : found.made[n]].tolist(), int(found.family[n])) for n in range(25)
    ]
    assert sorted(seen) == sorted(wanted)
    assert batch["read"].sum() == (found.sizes + found.made).sum()
    assert batch["ids"].shape[1] % 8 == batch["answers"].shape[1] % 8 == 0


def test_pairs_of_examples_leave_little_padding() -> None:
    used = {}
    for together in (1, 2, 4):
        shares = []
        for number in range(40):
            source = rows(KINDS, partial(denoising.for_encoder_decoder, start=9, together=together))
            batch = source.fill(np.arange(24) % source.rows, randomness(1, number))
            shares.append(batch["read"].sum() / (batch["ids"].size + batch["answers"].size))
        used[together] = float(np.mean(shares))
    assert used[1] < 0.74 < 0.8 < used[2] < 0.86 < used[4]
