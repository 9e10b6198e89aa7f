"""SIGKILL at random moments: the next run completes, and its artifacts are those of an uninterrupted run, byte for byte."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECIPE = """\
seed: 5
steps:
  library: {use: corpus.read.stdlib, limit: 60}
  parsed: {use: corpus.clean.python_syntax, corpus: $library}
  unique: {use: corpus.dedup.minhash, corpus: $parsed, threshold: 0.8}
  split: {use: corpus.split, corpus: $unique, held_out: 0.2}
  tokens: {use: corpus.tokenize.bpe, corpus: $split.train, held_out: $split.held_out, vocab_size: 300}
  dense:
    use: learn.train
    model: {use: learn.models.llama, hidden_size: 32, layers: 2, heads: 2, intermediate_size: 64}
    tokens: $tokens.train
    budget: {steps: 150}
    batch_size: 4
    length: 64
    checkpoint_seconds: 0.2
  smaller: {use: prune.sparsegpt, model: $dense, calibration: $tokens.train, sparsity: 0.5}
  quality: {use: measure.perplexity, model: $smaller, tokens: $tokens.held_out}
"""


def tree(workspace: Path) -> dict[str, bytes]:
    """All bytes of all artifacts; step.json, which holds times, is left out."""
    steps = workspace / "steps"
    return {p.relative_to(steps).as_posix(): p.read_bytes() for p in sorted(steps.rglob("*")) if p.is_file() and p.name != "step.json"}


def start(folder: Path, workspace: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "paredown.cli.main", "run", "r.yaml", "--workspace", workspace, "--no-report"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def finish(folder: Path, workspace: str) -> float:
    begun = time.monotonic()
    process = start(folder, workspace)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err.decode()
    return time.monotonic() - begun


def test_killed_runs_end_in_the_same_bytes(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    kills = 25 if request.config.getoption("--soak") else 5
    (tmp_path / "r.yaml").write_text(RECIPE)
    finish(tmp_path, "warm")  # compiled kernels are cached, so that the moments spread over the work
    shutil.rmtree(tmp_path / "warm")
    lasted = finish(tmp_path, "whole")
    expected = tree(tmp_path / "whole")
    draw = random.Random(7)
    where: dict[str, int] = {}
    for _ in range(kills):  # each from nothing, so that early steps are hit as often as late ones
        process = start(tmp_path, "killed")
        time.sleep(draw.uniform(0.1, 1.0) * lasted)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
        done = len(list((tmp_path / "killed" / "steps").glob("*/step.json"))) if (tmp_path / "killed" / "steps").exists() else 0
        where[f"after {done} steps"] = where.get(f"after {done} steps", 0) + 1
        finish(tmp_path, "killed")
        assert tree(tmp_path / "killed") == expected
        shutil.rmtree(tmp_path / "killed")
    print(f"{kills} kills, {dict(sorted(where.items()))}: every next run ended in the bytes of the uninterrupted one")
