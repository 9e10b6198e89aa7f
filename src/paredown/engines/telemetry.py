"""What a training says while it runs: curves, progress, and when the next checkpoint is due."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from paredown.core.context import Context, Listener
    from paredown.engines.parts import Budget
    from paredown.engines.processes import Processes
    from paredown.engines.training import State

POINTS = 500  # of a curve, at most; more are averaged in pairs


class Curves:
    """Points (step, tokens, value) of each metric; they go to the listener and the trackers as they come."""

    def __init__(self, listener: Listener, processes: Processes) -> None:
        self.points: dict[str, list[list[float]]] = {"loss": [], "held_out_loss": []}
        self._listener, self._processes = listener, processes

    def add(self, metric: str, step: int, tokens: int, value: float) -> None:
        points = self.points.setdefault(metric, [])
        points.append([step, tokens, value])
        if len(points) >= 2 * POINTS:
            self.points[metric] = thin(points)
        if self._processes.main:
            self._listener.curve(metric, step, value, tokens)
        self._processes.track({metric: value, "tokens": tokens}, step)

    def last(self, metric: str) -> float | None:
        return self.points[metric][-1][2] if self.points[metric] else None

    def thinned(self) -> dict[str, list[list[float]]]:
        return {metric: thin(points) if len(points) > POINTS else points for metric, points in self.points.items()}

    def dump(self) -> dict[str, list[list[float]]]:
        return self.points

    def load(self, dumped: dict[str, list[list[float]]]) -> None:
        self.points = dumped


class Evaluations:
    """The held-out evaluations of a training: what it had spent at each, and what was measured; at most 1,000, then every second one goes.

    Their own cost is left out: a training is no slower for being watched.
    """

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []  # step, tokens, flops, loss and its parts: the same in every run
        self.clock: list[float] = []  # seconds of the loop at each
        self.seconds = 0.0  # that evaluating itself took

    @contextlib.contextmanager
    def timed(self, state: State) -> Iterator[dict[str, float]]:
        """Holds what an evaluation measures; an evaluation that measures nothing leaves no point."""
        at, begun, found = state.seconds - self.seconds, time.perf_counter(), dict[str, float]()
        yield found
        self.seconds += time.perf_counter() - begun
        if found:
            self.points.append({"step": state.step, "tokens": state.tokens, "flops": state.flops, **found})
            self.clock.append(round(at, 4))
        if len(self.points) >= 2 * POINTS:
            self.points, self.clock = self.points[1::2], self.clock[1::2]

    def dump(self) -> list[Any]:
        return [self.points, self.clock, self.seconds]

    def load(self, dumped: list[Any]) -> None:
        self.points, self.clock, self.seconds = dumped


def thin(points: list[list[float]]) -> list[list[float]]:
    """Half as many points: each pair becomes its later place and its mean value."""
    halves = [[b[0], b[1], (a[2] + b[2]) / 2] for a, b in zip(points[::2], points[1::2], strict=False)]
    return halves + points[len(halves) * 2 :]


class Window:
    """Losses since the last log; they stay on the device until someone asks, as asking waits for the device."""

    def __init__(self) -> None:
        self._sums: list[Tensor | float] = []
        self._counts: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._sums)

    @property
    def predicted(self) -> int:
        """How many predicted tokens it is about."""
        return sum(self._counts)

    def add(self, total: Tensor, predicted: int) -> None:
        self._sums.append(total)
        self._counts.append(predicted)

    def read(self, step: int) -> tuple[float, int | None]:
        """(mean loss per predicted token, or the first value that is not finite; the step of that value or None)."""
        waiting = [s for s in self._sums if isinstance(s, Tensor)]
        if waiting:
            self._sums[len(self._sums) - len(waiting) :] = torch.stack(waiting).tolist()
        for number, value in enumerate(self._sums):
            if not math.isfinite(value):
                return float(value), step - len(self._sums) + number + 1
        return math.fsum(float(s) for s in self._sums) / max(1, sum(self._counts)), None

    def clear(self) -> None:
        self._sums, self._counts = [], []

    def dump(self) -> list[list[float]]:
        """After `read`, the sums are plain numbers."""
        return [[float(s), n] for s, n in zip(self._sums, self._counts, strict=True)]

    def load(self, dumped: list[list[float]]) -> None:
        self._sums, self._counts = [s for s, _ in dumped], [int(n) for _, n in dumped]


class Reporter:
    """Progress, some times a second."""

    def __init__(self, context: Context, budget: Budget) -> None:
        self._context, self._next = context, 0.0
        self._unit = next(name for name in type(budget).model_fields if getattr(budget, name) is not None)
        self._limit = float(getattr(budget, self._unit))

    def say(self, state: State, loss: float | None) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + 0.5
        done = {"tokens": state.tokens, "steps": state.step, "seconds": state.seconds, "flops": state.flops}[self._unit]
        self._context.progress(min(float(done), self._limit), self._limit, self._unit, f"loss {loss:.3f}" if loss is not None else "")


class Due:
    """When to take the next checkpoint: every so many seconds, but never so that saving takes more than 5% of the time."""

    def __init__(self, seconds: float) -> None:
        self._interval = self._seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._last >= self._interval

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        start = time.monotonic()
        yield
        self._last = time.monotonic()
        self._interval = max(self._seconds, 20 * (self._last - start))


class Sums:
    """Sums of the parts of a loss, by name."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.sums: dict[str, tuple[Tensor, int]] = {}

    def add(self, more: Sequence[dict[str, tuple[Tensor, int]]]) -> None:
        """What an objective gave beside its loss: nothing, or one mapping of means and numbers."""
        for name, (mean, n) in more[0].items() if more else ():
            total, before = self.sums.get(name, (torch.zeros((), device=self.device), 0))
            self.sums[name] = (total + mean.detach() * n if n else total, before + n)

    def summed(self, processes: Processes) -> list[tuple[str, tuple[Tensor, int]]]:
        """Over all processes."""
        return [(name, processes.sum(*pair)) for name, pair in sorted(self.sums.items())]
