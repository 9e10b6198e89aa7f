"""What a running step may use beside its inputs: folders, its random generator, progress, cost, facts.

A strategy asks for it with `context()`. Under the runner it is the step's own; in a notebook it is a fresh one in a
temporary folder, so that `Wanda(sparsity=0.5)(model, calibration)` works without any set-up.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from paredown.core.errors import UserError

if TYPE_CHECKING:
    import numpy

    from paredown.core.workspace import Record


class Listener:
    """Where a step's progress goes. The default says nothing."""

    def progress(self, done: float, total: float | None, unit: str, note: str) -> None:
        """Called at most some times a second."""

    def curve(self, metric: str, step: int, value: float, tokens: int) -> None:
        """One point of a training curve."""


@dataclass
class Engine:
    """How document shards are worked on: here in one process, in a pool, or as Ray tasks."""

    kind: Literal["local", "ray"] = "local"
    processes: int = 1


@dataclass
class Cost:
    """What a step cost, as far as the strategy knows it; the runner adds time, memory and disk."""

    flops: float = 0.0
    flops_how: str = ""  # "counted" or the formula
    tokens: int = 0
    documents: int = 0
    money: float | None = None  # None: nothing was asked of anyone who takes money, or no price is known
    currency: str = ""


@dataclass
class Context:
    """The surroundings of one step."""

    folder: Path  # parts of the output are written here
    scratch: Path  # survives a kill; empty on the first try, removed when the step is done
    seed: int | None = 0  # None: the strategy did not declare `seeded`
    name: str = "step"
    listener: Listener = field(default_factory=Listener)
    engine: Engine = field(default_factory=Engine)
    made_from: dict[str, list[Record]] = field(default_factory=dict)  # input -> all steps that it took, its own last; where `reads_costs`
    cost: Cost = field(default_factory=Cost)
    facts: dict[str, Any] = field(default_factory=dict)  # JSON values for the ledger, such as the chosen precision
    says: str = ""  # one short phrase for the step's line, where the artifact's own says too little
    dropped: dict[str, list[int]] = field(default_factory=dict)  # rule -> [documents, bytes, tokens]
    shared: Path | None = None  # outlives the step and its knobs: what was paid for lies there; None: `scratch`

    def output(self, part: str) -> Path:
        """A new empty folder for one part of the output."""
        path = self.folder / part
        path.mkdir(parents=True, exist_ok=False)
        return path

    def derived_seed(self, *salt: object) -> int:
        """A 63-bit seed that depends on the step's seed and `salt` only.

        Raises:
            UserError: the strategy draws random numbers without declaring `seeded`.
        """
        if self.seed is None:
            raise UserError(f"{self.name} draws random numbers but does not declare `seeded = True`")
        digest = hashlib.sha256(repr((self.seed, *salt)).encode()).digest()
        return int.from_bytes(digest[:8], "little") >> 1

    def generator(self, *salt: object) -> numpy.random.Generator:
        """A generator that depends on the step's seed and `salt` only."""
        import numpy

        return numpy.random.default_rng(self.derived_seed(*salt))

    def progress(self, done: float, total: float | None = None, unit: str = "", note: str = "") -> None:
        self.listener.progress(done, total, unit, note)

    def charge(
        self, *, flops: float = 0.0, how: str = "", tokens: int = 0, documents: int = 0, money: float | None = None, currency: str = ""
    ) -> None:
        """Add to the step's cost.

        Raises:
            UserError: the step has cost money in another currency already.
        """
        self.cost.flops += flops
        self.cost.tokens += tokens
        self.cost.documents += documents
        if money is not None:
            if self.cost.money is not None and currency != self.cost.currency:
                raise UserError(
                    f"{self.name} costs money in two currencies, {self.cost.currency} and {currency}",
                    todo="give all prices in one currency",
                )
            self.cost.money, self.cost.currency = (self.cost.money or 0.0) + money, currency
        if how and how not in self.cost.flops_how:
            self.cost.flops_how = f"{self.cost.flops_how}; {how}" if self.cost.flops_how else how

    def drop(self, rule: str, documents: int, bytes_: int = 0, tokens: int = 0) -> None:
        """Count what a rule took out."""
        row = self.dropped.setdefault(rule, [0, 0, 0])
        for index, value in enumerate((documents, bytes_, tokens)):
            row[index] += int(value)


_current: ContextVar[Context | None] = ContextVar("paredown_step", default=None)
_kept_alive: list[tempfile.TemporaryDirectory[str]] = []


class _Outside(Context):
    """Outside of a run: folders are made when they are first asked for, as most calls only tell of progress."""

    @functools.cached_property
    def _root(self) -> Path:
        folder = tempfile.TemporaryDirectory(prefix="paredown-")
        _kept_alive.append(folder)  # results of a notebook call live as long as the process
        (Path(folder.name) / "scratch").mkdir()
        return Path(folder.name)

    def __getattribute__(self, name: str) -> Any:
        if name == "folder":
            return self._root / "out"
        if name == "scratch":
            return self._root / "scratch"
        if name == "shared":
            return self._root and Path(_kept_alive[0].name)  # one for all calls of the process
        return super().__getattribute__(name)


def context() -> Context:
    """The running step's context, or a fresh temporary one outside of a run."""
    found = _current.get()
    if found is not None:
        return found
    return _Outside(Path(), Path(), engine=Engine(processes=1), name=f"process {os.getpid()}")


@contextlib.contextmanager
def running(step: Context) -> Iterator[Context]:
    """Make `step` what `context()` gives inside the block."""
    token = _current.set(step)
    try:
        yield step
    finally:
        _current.reset(token)
