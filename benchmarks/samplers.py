"""What a sampler costs: RS2 beside plain shuffling, over up to ten million rows, as a share of a training step.

    python benchmarks/samplers.py [--rounds 5] [--batches 2000] [--rows 10000 1000000 10000000] [--batch 64]

Every sampler chooses the same number of batches; rounds are interleaved, every second one in reverse order. Beside them a training step of
the quickstart's model (0.66M weights, 16 rows of 128 tokens) is timed, and what a sampler takes beyond shuffling is given as a share of
it. Memory is what Python and numpy allocate at most while batches are chosen, labels not counted; `stratified` sorts the labels once,
which is given apart.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np

FRACTION = 0.1


@dataclass(frozen=True, eq=False)
class Rows:
    """So many rows with ten labels, without content."""

    rows: int
    labels: Any

    def fill(self, chosen: Any, generator: Any) -> dict[str, Any]:
        return {}

    def column(self, name: str) -> Any:
        return self.labels


def samplers() -> dict[str, Any]:
    from paredown.learn.samplers.rs2 import Rs2
    from paredown.learn.samplers.shuffled import Shuffled

    modes = ("no_replacement", "replacement", "stratified", "static")
    return {"shuffled": Shuffled(), **{f"rs2 {mode}": Rs2(fraction=FRACTION, mode=mode) for mode in modes}}


def microseconds(sampler: Any, rows: Rows, batches: int, size: int) -> float:
    """A batch, on the mean over batches that follow one another from the middle of a round."""
    from paredown.engines.parts import Draw

    first = int(0.95 * FRACTION * rows.rows) // size  # so that the end of a round lies within
    begun = time.perf_counter()
    for index in range(first, first + batches):
        sampler.choose(rows, Draw(0, index, size))
    return (time.perf_counter() - begun) / batches * 1e6


def peak(sampler: Any, rows: Rows, size: int) -> tuple[int, int]:
    """Bytes allocated at most: by the first batch, and by a hundred more."""
    from paredown.engines import orders
    from paredown.engines.parts import Draw

    orders._order.cache_clear()
    found = []
    tracemalloc.start()
    for batches in (range(1), range(1, 101)):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        for index in batches:
            sampler.choose(rows, Draw(0, index * rows.rows // 100 // size, size))
        found.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    return found[0], found[1]


def step_microseconds(steps: int = 12) -> float:
    """A training step of the quickstart's model: forward, backward, AdamW; the median."""
    import torch

    from paredown.learn.models.llama import Llama

    torch.manual_seed(0)
    model: Any = Llama(hidden_size=128, layers=3, heads=4, intermediate_size=344, max_length=128).build(512, 0)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids, seen = torch.randint(512, (16, 128)), []
    for _ in range(steps):
        begun = time.perf_counter()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(time.perf_counter() - begun)
    return statistics.median(seen[2:]) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved runs of every sampler")
    parser.add_argument("--batches", type=int, default=2000, help="batches of a run")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000], help="rows to choose from")
    parser.add_argument("--batch", type=int, default=64, help="rows of a batch")
    given = parser.parse_args()
    from paredown.core.machine import describe

    machine = describe()
    step = step_microseconds()
    print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}; a training step {step / 1e3:.1f} ms")
    for count in given.rows:
        rows, named = Rows(count, np.arange(count, dtype=np.int64) % 10), samplers()
        found: dict[str, list[float]] = {name: [] for name in named}
        kept = {name: peak(sampler, rows, given.batch) for name, sampler in named.items()}
        for number in range(given.rounds):
            for name in list(named)[:: -1 if number % 2 else 1]:
                found[name].append(microseconds(named[name], rows, given.batches, given.batch))
        print(
            f"\n{count:,} rows, batches of {given.batch}: microseconds a batch (min, median, max), beyond shuffling as a share of a step, peak bytes (first batch, later ones)"
        )
        for name, values in found.items():
            beyond = statistics.median(a - b for a, b in zip(values, found["shuffled"], strict=True)) / step
            first, later = kept[name]
            said = "" if name == "shuffled" else f"{beyond:+.2%} (target below 3%)"
            print(f"{name:<20}{min(values):9.1f}{statistics.median(values):9.1f}{max(values):9.1f}   {said:<30}{first:>14,}{later:>12,}")


if __name__ == "__main__":
    main()
