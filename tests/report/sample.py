"""A hand-made summary of a run like the quickstart's; every figure is invented."""

from __future__ import annotations

import math
from typing import Any

ARMS = ["dense", "control", "sparsegpt", "narrow"]
CODE = "def read(path):\n    with open(path) as stream:\n"
ENDINGS = {
    "dense": "        return stream.read()\n\n\ndef write(path, data):\n    pass\n",
    "control": "        self.self = self.self\n        self.path = self.path\n",
    "sparsegpt": "        return stream\n\n    def __init__(self, path):\n        self.path = path\n",
    "narrow": "        for line in self.path:\n            return line.strip()\n",
}
RECIPE = "name: quickstart\nsteps:\n  library: {use: corpus.read.stdlib}\n  quality: {use: corpus.clean.code, corpus: $library}\n"


COLUMNS = [
    ("bits per byte, pruned", "bits/byte", "lower", "metric"), ("bits per byte, healed", "bits/byte", "lower", "metric"), ("perplexity, healed", "per token", "lower", "metric"),
    ("prefill tokens/s", "tokens/s", "higher", "metric"), ("decode tokens/s", "tokens/s", "higher", "metric"), ("FLOPs to get there", "FLOPs", "lower", "cost"),
    ("training tokens", "tokens", "lower", "cost"), ("seconds to get there", "s", "lower", "cost"), ("parameters", "parameters", "lower", "cost"), ("non-zero", "parameters", "lower", "cost"),
    ("bytes at rest", "bytes", "lower", "cost"),
]  # fmt: skip
MEASURED = (0, 1, 2, 3, 4, 7)  # columns that differ from seed to seed
VALUES = {
    "dense": [1.95, 1.95, 17.1, 92_000, 16_400, 8.1e12, 2.0e6, 125, 660_000, 660_000, 2.64e6],
    "control": [2.32, 2.031, 19.2, 92_100, 16_380, 8.9e12, 2.2e6, 140, 660_000, 250_000, 2.64e6],
    "sparsegpt": [2.15, 2.008, 18.6, 91_800, 16_410, 9.0e12, 2.2e6, 143, 660_000, 250_000, 2.64e6],
    "narrow": [2.14, 1.99, 18.2, 118_000, 20_900, 8.7e12, 2.2e6, 138, 461_000, 461_000, 1.84e6],
}
NOTES = {
    "control": "zeros; no kernel here uses them",
    "sparsegpt": "zeros; no kernel here uses them",
    "narrow": "30% of the weights removed",
}


def _row(arm: str, seeds: int) -> dict[str, Any]:
    values = list(VALUES[arm])
    several = [seeds > 1 and i in MEASURED for i in range(len(values))]
    return {
        "arm": arm,
        "label": arm if arm != "control" else "control (prune.magnitude)",
        "values": values,
        "spread": [[v * 0.995, v * 1.004] if known else None for v, known in zip(values, several, strict=True)],
        "interval": [[v * 0.991, v * 1.009] if known else None for v, known in zip(values, several, strict=True)],
        "ratios": [v / c for v, c in zip(values, VALUES["control"], strict=True)],
        "note": NOTES.get(arm, ""),
    }


def claim(text: str, verdict: str, **more: Any) -> dict[str, Any]:
    """A claim on the healed model's bits per byte that nothing is known of, unless `more` says so."""
    row = {
        "text": text, "says": "", "metric": "quality_after.bits_per_byte", "unit": "bits/byte", "better": "lower", "arm": "sparsegpt", "other": "control", "kind": "beats",
        "margin": 0.0, "verdict": verdict, "reason": "", "means": [None, None], "difference": None, "low": None, "high": None, "method": "", "n": 1, "items": 0,
        "budget": None, "extra": "",
    }  # fmt: skip
    return row | more


def claims(seeds: int) -> list[dict[str, Any]]:
    """One of each verdict; with one seed, none."""
    bits = "quality_after.bits_per_byte"
    if seeds == 1:
        return [claim(f"{bits}: sparsegpt beats control", "no verdict", reason="1 seed", means=[2.008, 2.031], difference=-0.023)]
    tested = {"method": "paired t over seeds and items", "n": seeds}
    equal = {"budget": {"name": "tokens", "arm": 2.2e6, "other": 2.2e6, "apart": 0.0}}
    return [
        claim(f"{bits}: sparsegpt beats control", "holds", says="sparsegpt leaves fewer bits per byte than control at equal tokens", means=[2.008, 2.031],
              difference=-0.023, low=-0.028, high=-0.018, items=34, extra="+1.1% FLOPs in sparsegpt", **tested, **equal),
        claim(f"{bits}: narrow equals dense within 0.02", "fails", says="narrow and dense are within 0.02 bits per byte of each other", arm="narrow", other="dense", kind="equals",
              margin=0.02, means=[1.99, 1.95], difference=0.04, low=0.031, high=0.049, items=34, **tested),
        claim(f"{bits}: narrow is not worse than sparsegpt within 0.01", "undecided", arm="narrow", other="sparsegpt", kind="not_worse_than", margin=0.01,
              reason="the interval reaches over the margin; more seeds would tell", means=[1.99, 2.008], difference=-0.018, low=-0.05, high=0.014, **tested, **equal),
        claim("speed.decode_tokens_per_second: narrow beats control by 1000", "no verdict", says="narrow decodes at least 1,000 tokens/s faster than control", metric="speed.decode_tokens_per_second",
              unit="tokens/s", better="higher", arm="narrow", margin=1000, reason="the arms differ by 2.2% in FLOPs, and the claim is at equal FLOPs (allowed 1%)", means=[20_900, 16_380],
              difference=4_520, low=4_100, high=4_940, budget={"name": "flops", "arm": 8.7e12, "other": 8.9e12, "apart": 0.022}, **tested),
    ]  # fmt: skip


def old(seeds: int = 1) -> dict[str, Any]:
    """As runs were stored before claims were tested: no intervals, no ratios, fewer costs, claims with a text and a reason only."""
    found = summary(seeds)
    kept = [i for i, column in enumerate(COLUMNS) if column[0] not in ("training tokens", "seconds to get there")]
    found["table"]["columns"] = [found["table"]["columns"][i] for i in kept]
    for row in found["table"]["rows"]:
        del row["interval"], row["ratios"]
        row |= {name: [row[name][i] for i in kept] for name in ("values", "spread")}
    found["claims"] = [
        {"text": f"{bits}: sparsegpt beats control", "verdict": "no verdict", "reason": f"{seeds} seeds, not tested yet"}
        for bits in ("quality_after.bits_per_byte",)
    ]
    found["verdict"] = f"{seeds} seeds: no verdict. The table shows means; whether they differ by more than noise is not tested yet."
    return found


def crowded(number: int = 9) -> dict[str, Any]:
    """Many arms that lie close to each other, some at the same point."""
    found = summary(3)
    base = found["table"]["rows"][0]
    rows = []
    for i in range(number):
        near = [v * (1 + 0.004 * (i % 3) + 0.0005 * (i // 3)) for v in base["values"]]
        near[-1] = base["values"][-1] * (1 if i % 2 else 0.97)
        rows.append(
            base | {"arm": f"arm_number_{i}", "label": f"arm_number_{i}", "values": near, "interval": [None] * len(near), "note": ""}
        )
    found["arms"] = [*found["arms"], *(row["arm"] for row in rows)]
    found["table"]["rows"] = [*found["table"]["rows"], *rows]
    return found


def curve(start: float, end: float, tokens: float, points: int) -> list[list[float]]:
    return [
        [i, tokens * i / points, end + (start - end) * math.exp(-6 * i / points) + 0.03 * math.sin(i * 1.7)] for i in range(1, points + 1)
    ]


def step(name: str, arms: list[str], seed: int, strategy: str, inputs: dict[str, str], seconds: float, **more: Any) -> dict[str, Any]:
    cost = {
        "seconds": seconds,
        "cpu_seconds": seconds * 1.9,
        "peak_memory": 640e6,
        "flops": 0,
        "flops_how": "",
        "tokens": 0,
        "documents": 0,
        "bytes": 2.6e6,
    }
    cost |= {"energy_joules": None, **more.pop("cost", {})}
    row = {
        "name": name, "arms": arms, "seed": seed, "strategy": strategy, "key": f"{abs(hash((name, tuple(arms), seed))) % 16**12:012x}",
        "folder": f".paredown/steps/{name}", "status": "done", "knobs": {}, "inputs": inputs, "summary": "", "cost": cost, "facts": {},
        "dropped": {}, "parameters": None, "scores": [], "curves": {}, "samples": [], "rejected": [],
    }  # fmt: skip
    return row | more


def summary(seeds: int = 1) -> dict[str, Any]:
    steps = [
        step("library", ARMS, 0, "corpus.read.stdlib", {}, 0.9, cost={"documents": 712}, summary="712 documents, 12.4 MB", status="cached"),
        step("parsed", ARMS, 0, "corpus.clean.python_syntax", {"corpus": "library"}, 1.2, cost={"documents": 712}, summary="709 documents, 12.3 MB", dropped={"does_not_parse": [3, 9200, 0]}, status="cached"),
        step("quality", ARMS, 0, "corpus.clean.code", {"corpus": "parsed"}, 0.4, cost={"documents": 709}, summary="688 documents, 11.2 MB",
             dropped={"longest_line": [14, 801_000, 0], "alphanumeric_share": [5, 220_000, 0], "encoded": [2, 96_000, 0]},
             rejected=[{"id": "encodings/cp037.py", "reason": "alphanumeric share", "text": "decoding_table = (\n    '\\x00'  # 0x00 -> NULL\n" * 3},
                       {"id": "pydoc_data/topics.py", "reason": "longest line", "text": "<script>alert('no')</script> " * 8}]),
        step("exact", ARMS, 0, "corpus.dedup.exact", {"corpus": "quality"}, 0.1, cost={"documents": 688}),
        step("unique", ARMS, 0, "corpus.dedup.minhash", {"corpus": "exact"}, 0.6, cost={"documents": 688}, dropped={"near duplicate": [6, 44_000, 0]}, facts={"clusters": 5}),
        step("split", ARMS, 0, "corpus.split", {"corpus": "unique"}, 0.2, knobs={"held_out": 0.05}),
        step("tokens", ARMS, 0, "corpus.tokenize.bpe", {"corpus": "split.train", "held_out": "split.held_out"}, 2.8, knobs={"vocab_size": 512}, summary="5.4M tokens, 2.1 bytes a token"),
    ]  # fmt: skip
    for seed in range(seeds):
        shift = 0.006 * seed
        steps.append(
            step("dense", ARMS, seed, "learn.train", {"tokens": "tokens.train", "model": "learn.models.llama"}, 125, cost={"flops": 8.1e12, "flops_how": "counted", "tokens": 2e6},
                 knobs={"budget": {"tokens": 2e6}, "learning_rate": 0.002, "batch": 16}, summary="0.66M parameters", facts={"precision": "float32"}, curves={"loss": curve(6.2, 2.69 + shift, 2e6, 500), "held_out_loss": curve(6.2, 2.75 + shift, 2e6, 4)})
        )  # fmt: skip
        prune = {"control": "prune.magnitude", "sparsegpt": "prune.sparsegpt", "narrow": "prune.channels"}
        for number, arm in enumerate(ARMS):
            healed = "dense"
            if arm != "dense":
                knobs = {"sparsity": 0.5 if arm == "narrow" else 0.7, "pattern": "unstructured"}
                steps.append(
                    step(
                        "smaller",
                        [arm],
                        seed,
                        prune[arm],
                        {"model": "dense", "calibration": "tokens.train"},
                        0.1 + number,
                        knobs=knobs,
                        summary="0.66M parameters, 62% zero",
                    )
                )
                steps.append(
                    step("pruned_quality", [arm], seed, "measure.perplexity", {"model": "smaller", "tokens": "tokens.held_out"}, 2.1)
                )
                steps.append(step("healed", [arm], seed, "learn.train", {"model": "smaller", "tokens": "tokens.train"}, 14, cost={"flops": 8e11, "tokens": 2e5},
                                  summary="0.66M parameters", curves={"loss": curve(3.1 + number / 9, 2.72 + number / 50 + shift, 2e5, 50)}))  # fmt: skip
                healed = "healed"
            scores = [{"metric": "bits_per_byte", "value": 1.95, "unit": "bits/byte", "n": 34, "better": "lower"}]
            steps.append(
                step("quality_after", [arm], seed, "measure.perplexity", {"model": healed, "tokens": "tokens.held_out"}, 2.2, scores=scores)
            )
            steps.append(
                step(
                    "speed",
                    [arm],
                    seed,
                    "measure.speed",
                    {"model": healed},
                    1.4,
                    facts={
                        "kernel": "dense; zeros are not skipped",
                        "decode": {"min": 900 if arm == "narrow" else 16_000, "median": 16_400, "max": 16_500},
                    },
                )
            )
            samples = [{"prompt": CODE, "completion": ENDINGS[arm], "reference": "        return stream.read()\n"}]
            steps.append(
                step("completions", [arm], seed, "infer.generate", {"answerer": healed, "tokens": "tokens.held_out"}, 1.0, samples=samples)
            )
    rows = [_row(arm, seeds) for arm in ARMS]
    return {
        "format": 1, "run": "20261124-101500-quickstart", "recipe": "quickstart", "file": "recipes/quickstart.yaml", "recipe_text": RECIPE,
        "description": "A small language model learns Python from the standard library, is made smaller in three ways, and each way is healed with the same few tokens. What is lost, and what is saved?",
        "workspace": ".paredown", "started": "2026-11-24T10:15:00+00:00", "seconds": 192.1, "status": "done",
        "machine": {"cpu": "AMD EPYC (2 cores)", "cores": 2, "memory_bytes": 24e9, "system": "Linux 6.1", "load": 0.4},
        "versions": {"paredown": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
        "arms": ARMS, "reference": "dense", "control": "control", "seeds": list(range(seeds)), "steps": steps,
        "table": {"columns": [dict(zip(("title", "unit", "better", "kind"), t, strict=True)) for t in COLUMNS], "rows": rows},
        "claims": claims(seeds),
        "verdict": "1 seed: no verdict. Differences between arms of one run may be noise; a verdict needs several seeds." if seeds == 1
        else "4 claims: 1 holds, 1 fails, 1 undecided, 1 without a verdict. n = 3 seeds.",
        "totals": {"seconds": 190.0, "flops": 1.2e13, "steps": len(steps), "finished": len(steps), "cached": 2, "energy": "not measured (no counter on this machine)"},
    }  # fmt: skip
