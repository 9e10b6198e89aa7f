"""Reading prompts of different lengths: packed, against padded, sorted and single prompts; seconds, peak memory, exactness.

    python benchmarks/prepacking.py [--rounds 5] [--threads 2] [--prompts 64]

A Llama of 29.5M parameters in float32 with random weights reads 64 prompts of lognormal lengths (median 90, sigma 0.8, cut to 16
to 512), and 64 prompts of 128 tokens. Every side starts from lists of token ids and ends with the logits of the first new token
and the keys and values that decoding goes on from; packing, masks and cutting the cache are inside the clock. `transformers`
is the model's own forward pass over prompts padded on the left, its caches left as they are; the other sides are the parts
of `infer`. All sides of a round run in one process, one after the other, every other round backwards; ratios are taken
within a round, of wall seconds and, less disturbed by neighbours, of the process's CPU seconds. Peak memory is what a side adds to a process of its own that has read one prompt before.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

VOCABULARY = 8192
LENGTHS = {"lognormal": (90.0, 0.8, 16, 512), "equal": (128.0, 0.0, 16, 512)}
SIDES = (
    "transformers, batch 64", "transformers, sorted, batch 8", "infer.pad_batch", "infer.length_sorted", "infer.one_by_one",
    "infer.prepack, mask", "infer.prepack",
)  # fmt: skip
OURS, RIVALS = "infer.prepack", {"transformers, batch 64": 5.0, "transformers, sorted, batch 8": 1.25}
EXACT = 1e-4  # most that a logit may differ


def model() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=8, max_position_embeddings=2048, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def prompts(work: str, count: int) -> list[list[int]]:
    import numpy as np

    median, sigma, least, most = LENGTHS[work]
    generator = np.random.default_rng(0)
    lengths = np.clip(np.round(median * np.exp(sigma * generator.normal(size=count))), least, most).astype(int)
    return [generator.integers(1, VOCABULARY, length).tolist() for length in lengths]


def stock(module: Any, texts: list[list[int]], batch: int, by_length: bool) -> Any:
    """transformers itself; (logits in the order of the prompts, the caches of all batches)."""
    import torch

    order = sorted(range(len(texts)), key=lambda number: len(texts[number])) if by_length else range(len(texts))
    logits, caches = torch.empty(len(texts), VOCABULARY), []
    with torch.inference_mode():
        for first in range(0, len(texts), batch):
            chosen = list(order)[first : first + batch]
            width = max(len(texts[number]) for number in chosen)
            ids = torch.tensor([[0] * (width - len(texts[number])) + texts[number] for number in chosen])
            mask = torch.tensor([[0] * (width - len(texts[number])) + [1] * len(texts[number]) for number in chosen])
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            read = module(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
            logits[chosen] = read.logits[:, -1]
            caches.append(read.past_key_values)
    return logits, caches


def side(name: str, module: Any, texts: list[list[int]]) -> Callable[[], Any]:
    """What one side does, as a function that gives (logits, what it keeps)."""
    from paredown.core.catalog import build

    if name.startswith("transformers"):
        return lambda: stock(module, texts, *((8, True) if "sorted" in name else (64, False)))
    use, _, attention = name.partition(", ")
    how: Any = build({"use": use, **({"attention": attention} if attention else {})})

    def run() -> Any:
        begun = how.begin(module, texts, 1)
        return begun.logits, begun.cache

    return run


def resident(what: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024


def memory(name: str, work: str, count: int) -> None:
    """Print the bytes that a side adds at its peak."""
    module = model()
    side(name, module, prompts(work, 1))()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = resident("VmRSS")
    held = side(name, module, prompts(work, count))()
    print(json.dumps(resident("VmHWM") - before))
    del held


def child(*arguments: str, threads: int) -> Any:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def span(values: list[float], form: str = "{:8.3f}") -> str:
    return " ".join(form.format(f(values)) for f in (min, statistics.median, max))


def measure(work: str, rounds: int, count: int, threads: int) -> None:
    module, texts = model(), prompts(work, count)
    runs = {name: side(name, module, texts) for name in SIDES}
    reference = runs["infer.one_by_one"]()[0]
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    cpu: dict[str, list[float]] = {name: [] for name in SIDES}
    far: dict[str, float] = {}
    for number in range(rounds + 1):  # the first round is not counted
        for name in SIDES[:: -1 if number % 2 else 1]:
            start, used = time.perf_counter(), time.process_time()
            logits, held = runs[name]()
            took, used = time.perf_counter() - start, time.process_time() - used
            far[name] = max(far.get(name, 0.0), float((logits - reference).abs().max()))
            del logits, held
            if number:
                seconds[name].append(took)
                cpu[name].append(used)
        print(f"  round {number}  load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    lengths = [len(text) for text in texts]
    print(f"\n{work}: {count} prompts, {min(lengths)} to {max(lengths)} tokens, {sum(lengths):,} in all, padded {count * max(lengths):,}")
    print(f"{'':<32}{'seconds: min, median, max':>29} {'tokens/s':>9}   {'infer.prepack is faster by':>26}   by CPU   peak MiB  logits")
    for name in SIDES:
        ratios, by_cpu = ([a / b for a, b in zip(each[name], each[OURS], strict=True)] for each in (seconds, cpu))
        peak = child("--memory", name, work, str(count), threads=threads) / 2**20
        rate = sum(lengths) / statistics.median(seconds[name])
        print(
            f"{name:<32}{span(seconds[name], '{:9.3f}'):>29} {rate:9,.0f}   {span(ratios):>26} {statistics.median(by_cpu):8.3f}   {peak:8,.0f}  {far[name]:.1e}"
        )
    for name, target in RIVALS.items():
        target = target if work == "lognormal" else 0.97
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds[OURS], strict=True))
        print(f"against {name}: {ratio:.2f}, target {target}: {'met' if ratio >= target else 'missed'}")
    print(f"logits within {EXACT}: {'met' if max(far.values()) <= EXACT else 'missed'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--work", nargs="+", choices=LENGTHS, default=list(LENGTHS))
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        memory(given.memory[0], given.memory[1], int(given.memory[2]))
        return
    import torch

    from paredown.core.machine import describe

    torch.set_num_threads(given.threads)
    machine = describe()
    parameters = sum(weight.numel() for weight in model().parameters())
    print(
        f"{machine['cpu']}, {machine['cores']} cores, {given.threads} threads, load {machine['load']}; {parameters / 1e6:.1f}M parameters, fp32"
    )
    for work in given.work:
        measure(work, given.rounds, given.prompts, given.threads)


if __name__ == "__main__":
    main()
