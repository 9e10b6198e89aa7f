"""Asking a server: wall time against the ideal one at 32 and 64 requests at once, and the time to give stored answers again.

    python benchmarks/endpoint.py [--rounds 5] [--waves 20] [--latency 0.2] [--stored 2000]

The server is the one of the tests in a process of its own on the same machine; it answers each request after the latency. Ideal is
waves x latency, as if asking and answering took no time. Every request is a question with an answer of its own, which is checked, counted and
stored on the disk within the clock; one wave goes before it, so that connections stand. `client` is the official one with
nothing around it, asked the same questions by as many workers. All sides run one after the other in every round.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SERVER = Path(__file__).resolve().parents[1] / "tests" / "engines" / "answering_server.py"
TARGETS = {32: 1.12, 64: 1.25}  # times the ideal
REPLAY = 2.0  # seconds


def asked(url: str, at_once: int, questions: list[str], warm: list[str], folder: Path) -> tuple[float, float]:
    """(wall, CPU seconds) of the generator."""
    from paredown.core.context import Context
    from paredown.engines.generator import Question, opened
    from paredown.infer.answerers.endpoint import Endpoint

    step = Context(folder / "out", folder)
    with opened(Endpoint(base_url=url, model="m", concurrency=at_once), step) as generator:
        generator.answer([Question(text) for text in warm])
        wall, cpu = time.perf_counter(), time.process_time()
        answers = generator.answer([Question(text) for text in questions])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert len({answer.text for answer in answers}) == len(questions)
    return wall, cpu


def replayed(url: str, questions: list[str], folder: Path) -> tuple[float, float]:
    """(wall, CPU seconds) of the same questions again, from opening the store on."""
    from paredown.core.context import Context
    from paredown.engines.generator import Question, opened
    from paredown.infer.answerers.endpoint import Endpoint

    wall, cpu = time.perf_counter(), time.process_time()
    with opened(Endpoint(base_url=url, model="m"), Context(folder / "out", folder)) as generator:
        generator.answer([Question(text) for text in questions])
        assert generator.usage.stored == len(questions)
    return time.perf_counter() - wall, time.process_time() - cpu


def client(url: str, at_once: int, questions: list[str], warm: list[str], folder: Path) -> tuple[float, float]:
    """(wall, CPU seconds) of the official client alone."""
    from openai import AsyncOpenAI

    async def work(connection: AsyncOpenAI, texts: list[str]) -> None:
        pending = iter(texts)

        async def worker() -> None:
            for text in pending:
                await connection.chat.completions.create(model="m", messages=[{"role": "user", "content": text}], max_tokens=256)

        await asyncio.gather(*(worker() for _ in range(at_once)))

    async def run() -> tuple[float, float]:
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as connection:
            await work(connection, warm)
            wall, cpu = time.perf_counter(), time.process_time()
            await work(connection, questions)
            return time.perf_counter() - wall, time.process_time() - cpu

    return asyncio.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--waves", type=int, default=20, help="requests for each one at once")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that the server takes for an answer")
    parser.add_argument("--stored", type=int, default=2000, help="stored answers that are given again")
    given = parser.parse_args()

    from paredown.core.machine import describe

    machine = describe()
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, load {machine['load']}")
    sides: dict[str, Callable[..., tuple[float, float]]] = {"paredown": asked, "client": client}
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    again: list[tuple[float, float]] = []
    arguments = [sys.executable, str(SERVER), "--latency", str(given.latency)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        for number in range(given.rounds):
            for at_once in TARGETS:
                questions, warm = (
                    [f"{kind} {number} {n}" for n in range(many)] for kind, many in (("ask", at_once * given.waves), ("warm", at_once))
                )
                for name, side in sides.items():
                    with tempfile.TemporaryDirectory() as folder:
                        found.setdefault((name, at_once), []).append(side(url, at_once, questions, warm, Path(folder)))
            with tempfile.TemporaryDirectory() as folder:
                many = [f"store {n}" for n in range(given.stored)]
                asked(url, 200, many, [], Path(folder))
                again.append(replayed(url, many, Path(folder)))
            ratios = "  ".join(f"{name} {n}: {found[name, n][-1][0] / (given.waves * given.latency):.3f}" for name, n in found)
            print(f"  round {number + 1}  {ratios}  again: {again[-1][0]:.3f} s  load {os.getloadavg()[0]:.1f}", flush=True)
        server.communicate("")
    print(f"\n{'times the ideal':<30}{'min':>8} {'median':>8} {'max':>8}   CPU ms a request   target of the median")
    for (name, at_once), rows in found.items():
        ratios = sorted(wall / (given.waves * given.latency) for wall, _ in rows)
        cpu = statistics.median(cpu for _, cpu in rows) / (at_once * given.waves) * 1000
        middle = statistics.median(ratios)
        verdict = "" if name != "paredown" else f"{TARGETS[at_once]:.2f} {'met' if middle <= TARGETS[at_once] else 'missed'}"
        print(f"{f'{name}, {at_once} at once':<30}{ratios[0]:8.3f} {middle:8.3f} {ratios[-1]:8.3f}   {cpu:16.2f}   {verdict}")
    walls = sorted(wall for wall, _ in again)
    middle = statistics.median(walls)
    print(
        f"{given.stored} stored answers: {walls[0]:.3f}, {middle:.3f}, {walls[-1]:.3f} s; target {REPLAY:.2f} {'met' if middle < REPLAY else 'missed'}"
    )


if __name__ == "__main__":
    main()
