"""Wall time of the short commands, each in a process of its own: help, list, a dry run, a recipe that is finished already.

    python benchmarks/startup.py [--rounds 15] [--recipe recipes/quickstart.yaml]

What is measured is what a user waits: from starting the console script beside this interpreter until it has ended, its output read by
a pipe. Every command runs once before the clock, so that files are in the page cache and compiled; then in rounds, one
after the other. `python -c pass` is the floor. The dry run starts from an empty workspace each time; the recipe that is run again
was finished before the clock, with budgets cut short, in a temporary workspace. CPU seconds are those of the process and its children.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = str(Path(sys.executable).parent / "paredown")
RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "quickstart.yaml"
SHORT = {"dense.budget": "{tokens: 2e4}", "healed.budget": "{tokens: 2e3}", "dense.evaluate_tokens": "1024", "speed.repeats": "1"}


@dataclass
class Command:
    """One command, and what it took."""

    name: str
    arguments: Callable[[Path], list[str]]  # from an empty folder
    target: float | None = None  # seconds
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self, here: Path, *, timed: bool) -> None:
        """Run it once in `here`; its output must be that of success."""
        with tempfile.TemporaryDirectory(dir=here) as empty:
            arguments = self.arguments(Path(empty))
            cpu, begun = children(), time.perf_counter()
            done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=empty)
            wall, cpu = time.perf_counter() - begun, children() - cpu
        if done.returncode:
            sys.exit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        if timed:
            self.wall.append(wall)
            self.cpu.append(cpu)


def children() -> float:
    """CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def commands(recipe: Path, finished: Path) -> list[Command]:
    settings = [word for knob, value in SHORT.items() for word in ("--set", f"{knob}={value}")]
    return [
        Command("python -c pass", lambda empty: [sys.executable, "-c", "pass"]),
        Command("paredown --help", lambda empty: [PROGRAM, "--help"], 0.25),
        Command("paredown list", lambda empty: [PROGRAM, "list"], 0.25),
        Command("run --dry-run, nothing made", lambda empty: [PROGRAM, "run", str(recipe), "--dry-run", "-w", str(empty / "new")], 0.5),
        Command("run, all made already", lambda empty: [PROGRAM, "run", str(recipe), "-w", str(finished), *settings], 1.5),
    ]


def span(values: list[float]) -> str:
    return " ".join(f"{f(values):8.3f}" for f in (min, statistics.median, max))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="runs of every command under the clock")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="the recipe of the dry run and of the run again")
    given = parser.parse_args()

    from paredown.core.machine import describe

    machine = describe()
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, load {machine['load']}")
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        measured = commands(given.recipe.resolve(), here / "finished")
        begun = time.perf_counter()
        for command in measured:  # the last one makes the recipe here, once
            command.run(here, timed=False)
        print(f"each command once, the recipe made short: {time.perf_counter() - begun:.0f} s", flush=True)
        for number in range(given.rounds):
            for command in measured:
                command.run(here, timed=True)
            print(f"  round {number + 1:>2}  {measured[-1].wall[-1]:6.2f} s for the run again  load {os.getloadavg()[0]:.1f}", flush=True)
    print(f"\n{'wall seconds':<30}{'min':>8} {'median':>8} {'max':>8}   CPU, median  target of the median")
    for command in measured:
        middle = statistics.median(command.wall)
        verdict = f"{command.target:.2f} {'met' if middle < command.target else 'missed'}" if command.target else "none: the floor"
        print(f"{command.name:<30}{span(command.wall)}   {statistics.median(command.cpu):11.3f}  {verdict}")


if __name__ == "__main__":
    main()
