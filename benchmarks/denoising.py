"""What making a batch of denoising examples costs beside packed rows, as a share of a training step, and how much of the rows is padding.

    python benchmarks/denoising.py [--rounds 5] [--batches 400] [--batch 24] [--length 128]

Every kind of rows fills the same number of batches from the same million tokens; rounds are interleaved, every second one in reverse
order. A training step (forward, backward, AdamW; one thread) is timed for the T5 and the Llama shape of two and four blocks, width 128.
Times are of the CPU, so that what else the machine does hardly counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def tokens(folder: Path) -> Any:
    """A million tokens of documents of some hundred tokens, with sentinels and modes."""
    from tokenizers import Tokenizer, models

    from paredown.artifacts.tokens import END_OF_TEXT, SENTINEL, Tokens
    from paredown.engines.byte_pairs import extended

    plain = str(Tokenizer(models.BPE(vocab={END_OF_TEXT: 0, **{f"t{n}": n for n in range(1, 2000)}}, merges=[])).to_str())
    vocabulary = extended(plain, [*(SENTINEL.format(n) for n in range(100)), "[NLU]", "[NLG]", "[S2S]"])
    draw = np.random.default_rng(0)
    rows = ((draw.integers(1, 2000, size), size) for size in draw.integers(20, 800, 2400).tolist())
    return Tokens.write(folder, rows, tokenizer=vocabulary, vocab_size=2103)


def step_milliseconds(objective: Any, source: Any, shape: dict[str, Any], batch: int, steps: int = 8) -> float:
    """CPU time of a training step, the median."""
    import torch

    from paredown.core.catalog import build
    from paredown.engines.batches import randomness

    torch.manual_seed(0)
    module = build(shape).build(2103, 0)
    objective.prepare(module)
    optimizer, seen = torch.optim.AdamW(module.parameters(), fused=True), []
    for number in range(steps):
        filled = {name: torch.from_numpy(value) for name, value in source.fill(np.arange(batch), randomness(0, number)).items()}
        begun = time.process_time()
        objective.loss(module, filled)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(time.process_time() - begun)
    return statistics.median(seen[2:]) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved runs of every kind of rows")
    parser.add_argument("--batches", type=int, default=400, help="batches of a run")
    parser.add_argument("--batch", type=int, default=24, help="examples of a batch")
    parser.add_argument("--length", type=int, default=128, help="tokens of input and target together")
    given = parser.parse_args()
    import torch

    from paredown.core.catalog import build
    from paredown.core.machine import describe
    from paredown.engines.batches import packed, randomness

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data, use = tokens(Path(folder) / "tokens"), "learn.objectives.mixture_of_denoisers"
        objectives = {"decoder": build(use)} | {
            f"encoder-decoder, {n} a row": build({"use": use, "attention": "encoder_decoder", "together": n}) for n in (1, 2, 4)
        }
        sources = {"packed rows": packed(data, given.length)} | {name: o.rows(data, given.length) for name, o in objectives.items()}
        found: dict[str, list[float]] = {name: [] for name in sources}
        used: dict[str, list[float]] = {name: [] for name in sources}
        for number in range(given.rounds + 1):
            for name in list(sources)[:: -1 if number % 2 else 1]:
                begun = time.process_time()
                batches = [sources[name].fill(np.arange(given.batch), randomness(0, index)) for index in range(given.batches)]
                found[name] += [(time.process_time() - begun) / given.batches * 1e3] * (number > 0)  # the first one compiles
                used[name] = [b["read"].sum() / (b["ids"].size + b.get("answers", b["ids"][:0]).size) for b in batches if "read" in b]
        machine = describe()
        print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}; batches of {given.batch} x {given.length} tokens")
        print(f"{'':<28}{'ms a batch (min, median, max)':<34}{'step, ms':>10}{'share':>9}{'not padding':>14}")
        shape = {"hidden_size": 128, "heads": 4, "intermediate_size": 344}
        for name, values in found.items():
            said = f"{min(values):8.3f}{statistics.median(values):8.3f}{max(values):8.3f}"
            if name in objectives:
                kind = {"use": "learn.models.llama", "layers": 4} if name == "decoder" else {"use": "learn.models.t5", "layers": 2}
                step = step_milliseconds(objectives[name], sources[name], {**kind, **shape}, given.batch)
                said = f"{said:<34}{step:10.1f}{statistics.median(values) / step:9.2%}{np.mean(used[name]):14.1%}"
            print(f"{name:<28}{said}")


if __name__ == "__main__":
    main()
