"""What a person sees: numbers in words, the tree of steps while they run, the table at the end."""

from __future__ import annotations

import itertools
import os
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import Any

from paredown.core.plan import Forecast, Plan, Task
from paredown.core.runner import Reporter
from paredown.core.workspace import Record
from paredown.report import numbers

WIDTH = 100
INDENT = 2  # of a table


def print_json(value: Any) -> None:
    """One JSON object and a line end; NaN becomes null."""
    import orjson

    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str).decode() + "\n")


def unicode_terminal(stream: Any = None) -> bool:
    encoding = (getattr(stream or sys.stdout, "encoding", "") or "").lower().replace("-", "")
    return encoding.startswith("utf8")


def seconds(value: float | None) -> str:
    return "-" if value is None else numbers.duration(value)


def size(value: float | None) -> str:
    return "-" if value is None else numbers.size(value)


def count(value: float) -> str:
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return f"{value:,.0f}"


def number(value: float | None, unit: str = "") -> str:
    """A measured value with the digits that it deserves."""
    if value is None:
        return "-"
    if not numbers.usable(value):
        return "never" if value == float("inf") and unit in ("FLOPs", "s") else str(value)
    if unit == "FLOPs":
        return f"{value:.2g}".replace("e+", "e")
    if unit == "bytes":
        return size(value)
    if unit == "s":
        return seconds(value)
    if unit in ("parameters", "tokens", "weights"):
        return count(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 100 else f"{value:.3f}"


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> list[str]:
    """Lines of a table, numbers to the right, headings folded where that is narrower; notes, with the rows they are about, below.

    What does not fit beside the first column goes into a further table below, so that no line is longer than the screen.
    """
    folded = [fold(title) for title in columns]
    widths = [max([*(len(row[i]) for row in rows), *map(len, folded[i])], default=0) for i in range(len(columns))]
    groups: list[list[int]] = [[0]]
    for i in range(1, len(columns)):
        if len(groups[-1]) > 1 and sum(widths[j] + 2 for j in [*groups[-1], i]) - 2 > WIDTH - INDENT:
            groups.append([0])
        groups[-1].append(i)
    lines: list[str] = []
    for group in groups:
        height = max(len(folded[i]) for i in group)
        heads = [[([""] * (height - len(folded[i])) + folded[i])[level] for i in group] for level in range(height)]
        lines += [""] if lines else []
        for cells in [*heads, *([row[i] for i in group] for row in rows)]:
            first, *rest = (cell.rjust(widths[i]) if i else cell.ljust(widths[0]) for i, cell in zip(group, cells, strict=True))
            lines.append("  ".join([first, *rest]).rstrip())
    for note in dict.fromkeys(filter(None, notes)):
        about = ", ".join(row[0] for row, own in zip(rows, notes, strict=False) if own == note)
        lines += textwrap.wrap(f"{about}: {note}", WIDTH - INDENT, subsequent_indent="  ", break_on_hyphens=False)
    return lines


def fold(title: str) -> list[str]:
    """A heading in up to three lines, as narrow as its longest word allows."""
    words = title.split(" ")
    best = [title]
    for lines in (2, 3):
        if len(max(best, key=len)) <= 12:
            break
        for cuts in itertools.combinations(range(1, len(words)), lines - 1):
            edges = [0, *cuts, len(words)]
            folded = [" ".join(words[i:j]) for i, j in itertools.pairwise(edges)]
            if max(map(len, folded)) < max(map(len, best)):
                best = folded
    return best


class Lines(Reporter):
    """One plain line for each finished step: for logs, pipes and tests."""

    def __init__(self, stream: Any = None) -> None:
        self.stream = stream or sys.stdout
        self.plan: Plan | None = None
        self.group = ""
        self.begun: dict[str, float] = {}

    def say(self, text: str = "") -> None:
        print(text, file=self.stream, flush=True)

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        self.plan = plan
        self.say(headline(plan, forecast))
        self.say()

    def heading(self, task: Task) -> None:
        if self.plan is None:
            return
        group = "" if self.plan.shared(task) else ", ".join(task.arms)
        if group != self.group:
            self.group = group
            if group:
                self.say(f"  {group}")

    def started(self, task: Task) -> None:
        self.begun[task.key] = time.monotonic()

    def finished(self, task: Task, record: Record, cached: bool) -> None:
        self.heading(task)
        self.say(step_line(task, record, cached, indent=4 if self.group else 2, seeds=len(self.plan.recipe.seeds) if self.plan else 1))

    def failed(self, task: Task, error: BaseException) -> None:
        self.heading(task)
        word = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        self.say(f"{' ' * (4 if self.group else 2)}{task.name:<14} {task.use:<26} {word}")

    def close(self) -> None:
        """Nothing is open."""


def headline(plan: Plan, forecast: Forecast) -> str:
    recipe = plan.recipe
    shared = sum(plan.shared(task) for task in plan.tasks.values())
    dot = " · " if unicode_terminal() else " | "
    arms = len([a for a in recipe.arms if a])
    pieces = [
        f"{recipe.name}  "
        + (f"{arms} arms x " if arms else "")
        + f"{len(recipe.seeds)} seed{'s' * (len(recipe.seeds) != 1)}, {len(plan.tasks)} steps"
    ]
    if arms:
        pieces[0] += f", {shared} shared"
    if forecast.cached == forecast.steps:
        pieces.append("all cached")
    else:
        pieces.append(f"{forecast.cached} cached")
        cost = [
            f"about {seconds(forecast.seconds)}",
            f"{count(forecast.tokens)} tokens" if forecast.tokens else "",
            f"{size(forecast.disk)} disk" if forecast.disk else "",
            f"{size(forecast.memory)} memory" if forecast.memory else "",
        ]
        pieces.append(", ".join(c for c in cost if c))
    return dot.join(pieces)


def step_line(task: Task, record: Record, cached: bool, indent: int, seeds: int = 1) -> str:
    name = task.name if task.seed is None or seeds == 1 else f"{task.name} [{task.seed}]"
    took = "cached" if cached else seconds(record.cost.get("seconds"))
    what = describe(record)
    head = f"{' ' * indent}{name:<14} {task.use:<26} "
    room = WIDTH - len(head) - 11
    if len(what) > room:
        what = what[: room - 3] + "..."
    return f"{head}{what:<{room}} {took:>9}"


def describe(record: Record) -> str:
    """The step's result in a phrase; what was dropped is said beside what was kept."""
    total = sum(row[0] for row in record.dropped.values())
    if not total:
        return record.summary
    rules = list(record.dropped)
    shown = f"{len(rules)} rules" if len(rules) > 1 else rules[0].replace("_", " ")
    return f"{record.summary.replace(' documents', ' kept').partition(', ')[0]}, {total:,} dropped ({shown})"


class Tree(Lines):
    """Finished steps as lines, the running ones below them with bars, rate and time left."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.live import Live

        self.console = Console(no_color=bool(os.environ.get("NO_COLOR")), highlight=False, soft_wrap=True)
        self.running: dict[str, tuple[Task, float, tuple[float, float | None, str, str]]] = {}
        self.done = 0
        self.live = Live(self._view(), console=self.console, refresh_per_second=4, transient=True, get_renderable=self._view)
        self.live.start()

    def say(self, text: str = "") -> None:
        self.console.print(text, markup=False)

    def started(self, task: Task) -> None:
        super().started(task)
        self.running[task.key] = (task, time.monotonic(), (0, None, "", ""))

    def progress(self, key: str, done: float, total: float | None, unit: str, note: str) -> None:
        if key in self.running:
            task, begun, _ = self.running[key]
            self.running[key] = (task, begun, (done, total, unit, note))

    def finished(self, task: Task, record: Record, cached: bool) -> None:
        self.running.pop(task.key, None)
        self.done += 1
        super().finished(task, record, cached)

    def failed(self, task: Task, error: BaseException) -> None:
        self.running.pop(task.key, None)
        super().failed(task, error)

    def close(self) -> None:
        self.live.stop()

    def _view(self) -> Any:
        from rich.text import Text

        lines = [self._bar(task, begun, state) for task, begun, state in self.running.values()]
        if self.plan:
            waiting = len(self.plan.tasks) - self.done - len(self.running)
            if waiting > 0:
                lines.append(f"  {waiting} step{'s' * (waiting != 1)} waiting")
        return Text("\n".join(lines))

    def _bar(self, task: Task, begun: float, state: tuple[float, float | None, str, str]) -> str:
        done, total, unit, note = state
        elapsed = time.monotonic() - begun
        pieces = []
        bar = ""
        if total:
            share = min(1.0, done / total)
            full, empty = ("█", "·") if unicode_terminal(self.console.file) else ("#", ".")
            bar = full * round(10 * share) + empty * (10 - round(10 * share)) + f" {share:4.0%}  "
        if done and elapsed > 1:
            pieces.append(f"{count(done / elapsed)} {unit}/s")
            if total and done < total:
                pieces.append(f"{seconds((total - done) * elapsed / done)} left")
        if note:
            pieces.append(note)
        if not pieces:
            pieces.append(seconds(elapsed))
        return f"  {task.name:<14} {task.use:<26} {bar}{', '.join(pieces)}"


class Watcher(Reporter):
    """Passes events on and remembers what was cached, so that the summary can say so."""

    def __init__(self, inner: Reporter) -> None:
        self.inner = inner
        self.records: dict[str, Record] = {}
        self.cached: set[str] = set()
        self.last: tuple[str, float, float | None, str] | None = None
        self.open = True

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        self.inner.planned(plan, forecast)

    def started(self, task: Task) -> None:
        self.last = (task.name, 0, None, "")
        self.inner.started(task)

    def progress(self, key: str, done: float, total: float | None, unit: str, note: str) -> None:
        if self.last:
            self.last = (self.last[0], done, total, unit)
        self.inner.progress(key, done, total, unit, note)

    def finished(self, task: Task, record: Record, cached: bool) -> None:
        self.records[task.key] = record
        if cached:
            self.cached.add(task.key)
        self.last = None
        self.inner.finished(task, record, cached)

    def failed(self, task: Task, error: BaseException) -> None:
        self.inner.failed(task, error)

    def where(self) -> str:
        if not self.last or not self.last[1]:
            return ""
        name, done, total, unit = self.last
        return f" ({name} at {count(done)}{f' of {count(total)}' if total else ''} {unit})"

    def close(self) -> None:
        if self.open and isinstance(self.inner, Lines):
            self.inner.close()
        self.open = False


def reporter(quiet: bool) -> Lines | Tree | Reporter:
    """The renderer that fits where the output goes."""
    if quiet:
        return Reporter()
    return Tree() if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else Lines()
