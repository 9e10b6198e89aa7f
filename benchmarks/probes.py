"""What a probe costs beyond its own passes: a step on one row, the loss on a reference and everything put back, against those passes alone.

    python benchmarks/probes.py [--rounds 7] [--probes 40]

A Llama of 0.35M parameters (that of papers/086-mates.yaml) and one of 3.2M are trained for a few steps; then rows of 64 tokens are probed within
the training, as `learn.samplers.mates` does. Bare is a forward and a backward pass over the same rows, and a forward pass
over the same reference of 64 documents of 24 tokens, without an optimizer's step and with nothing to put back. Both sides of a round run in one
process, every other round backwards; ratios are taken within a round, of CPU seconds, which neighbours disturb less, and of wall seconds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from paredown.engines.parts import Hook

if TYPE_CHECKING:
    from paredown.artifacts.tokens import Tokens
    from paredown.engines.training import State

SHAPES = {
    "0.35M": {"hidden_size": 96, "layers": 3, "heads": 4, "intermediate_size": 256, "max_length": 64},
    "3.2M": {"hidden_size": 256, "layers": 4, "heads": 4, "intermediate_size": 688, "max_length": 64},
}
LENGTH, REFERENCE, VOCABULARY, AFTER = 64, 24, 512, 5
TARGET = 1.15


class Timed(Hook):
    """Times probes at one step of a training."""

    tags: ClassVar[tuple[str, ...]] = ()

    def step(self, state: State) -> None:
        if state.step == AFTER:
            MEASURE[0](state)


MEASURE: list[Callable[[Any], None]] = []


def texts(folder: Path, documents: int, length: int) -> Tokens:
    from tokenizers import Tokenizer, models

    from paredown.artifacts.tokens import Tokens

    rng = np.random.default_rng(0)
    vocabulary = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0")).to_str()
    made = ((rng.integers(1, VOCABULARY, length), length) for _ in range(documents))
    return Tokens.write(folder, made, tokenizer=vocabulary, vocab_size=VOCABULARY)


def clocked(run: Callable[[], Any]) -> tuple[float, float]:
    """(CPU seconds, wall seconds)"""
    begun = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - begun[0], time.perf_counter() - begun[1]


def measured(shape: dict[str, int], rounds: int, probes: int) -> list[tuple[float, float, float]]:
    """(ratio of CPU seconds, ratio of wall seconds, milliseconds of CPU a probe) of every round."""
    import torch

    from paredown.core.context import Context, running
    from paredown.engines import batches
    from paredown.engines.probing import Probes
    from paredown.learn.models.llama import Llama
    from paredown.learn.train import Train

    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference = texts(folder / "reference", 64, REFERENCE)

        def measure(state: State) -> None:
            source: Any = state.source
            looked_at = batches.evaluation(state.setup.objective.rows(reference, LENGTH), 64, 64)
            made = Probes(state, looked_at)
            rows = [source.fill(np.array([n]), np.random.default_rng(0)) for n in range(probes)]

            def bare() -> None:
                for row in rows:
                    state.setup.objective.loss(state.module, batches.on_device(row, state.device))[0].backward()
                    for parameter in state.module.parameters():
                        parameter.grad = None
                    state.module.eval()
                    with torch.no_grad():
                        for batch in made.reference:
                            state.setup.objective.loss(state.module, batch)
                    state.module.train()

            made.tried(rows[:2])
            bare()
            for number in range(rounds):
                sides = [lambda: made.tried(rows), bare]
                times = [clocked(side) for side in sides[:: -1 if number % 2 else 1]]
                (cpu, wall), (bare_cpu, bare_wall) = times[:: -1 if number % 2 else 1]
                found.append((cpu / bare_cpu, wall / bare_wall, cpu / probes * 1e3))

        MEASURE[:] = [measure]
        step = Context(folder / "out", folder / "scratch", seed=0)
        step.scratch.mkdir()
        with running(step):
            training: Any = Train(
                budget={"steps": AFTER + 1}, batch_size=8, length=LENGTH, evaluate_every=0, device="cpu", precision="fp32", hooks=(Timed(),)
            )
            training(Llama(**shape), texts(folder / "tokens", 200, 2 * LENGTH))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved runs of both sides")
    parser.add_argument("--probes", type=int, default=40, help="rows that a round probes")
    given = parser.parse_args()
    from paredown.core.machine import describe

    machine = describe()
    print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}; probe / its own passes: min, median, max (target {TARGET})")
    for name, shape in SHAPES.items():
        rounds = measured(shape, given.rounds, given.probes)
        for what, values in (("CPU", [r[0] for r in rounds]), ("wall", [r[1] for r in rounds])):
            print(f"{name:<8}{what:<6}{min(values):6.3f} {statistics.median(values):6.3f} {max(values):6.3f}")
        print(f"{name:<8}a probe takes {statistics.median(r[2] for r in rounds):.1f} ms of CPU")


if __name__ == "__main__":
    main()
