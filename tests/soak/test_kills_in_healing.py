"""SIGKILL inside healing, by PERP and block by block: the next run goes on inside the step and ends in the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import toy_runs

BEFORE = """\
seed: 5
steps:
  library: {use: corpus.read.stdlib, limit: 40}
  split: {use: corpus.split, corpus: $library, held_out: 0.2}
  tokens: {use: corpus.tokenize.bpe, corpus: $split.train, held_out: $split.held_out, vocab_size: 300}
  dense:
    use: learn.train
    model: {use: learn.models.opt, hidden_size: 32, layers: 2, heads: 2, max_length: 64}
    tokens: $tokens.train
    budget: {steps: 20}
    batch_size: 4
    length: 64
  smaller: {use: prune.magnitude, model: $dense, sparsity: 0.6}
"""
HEALING = {
    "perp": """\
  healed:
    use: learn.train
    model: $smaller
    tokens: $tokens.train
    budget: {steps: 150}
    batch_size: 4
    length: 64
    checkpoint_seconds: 0.05
    hooks: [{use: tune.perp, variant: VARIANT, rank: 4, head: true}]
""",
    "reconstruct": """\
  healed:
    use: tune.reconstruct
    model: $smaller
    reference: $dense
    calibration: $tokens.train
    calibration_tokens: 2048
    length: 64
    steps: 100
    checkpoint_seconds: 0.05
    hooks: [{use: tune.perp, variant: VARIANT, rank: 4}]
""",
}
INSIDE = {"perp": "work/*/scratch/checkpoints/step-*", "reconstruct": "work/*/scratch/block-00001/checkpoints/step-*"}


def start(folder: Path) -> subprocess.Popen[str]:
    return toy_runs.start(folder, "run", "r.yaml", "--workspace", "work-space", "--no-report")


def finish(folder: Path) -> dict[str, bytes]:
    process = start(folder)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return toy_runs.artifact_bytes(folder / "work-space")


def killed(folder: Path, pattern: str, times: int) -> int:
    """Kill a run when it has written a checkpoint that was not there before, so many times; how often it had not ended before."""
    done = 0
    for count in range(1, times + 1):
        process = start(folder)
        seen = {path.name for path in (folder / "work-space").glob(pattern)}
        while process.poll() is None and {path.name for path in (folder / "work-space").glob(pattern)} <= seen:
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            done = count
        process.communicate()
    return done


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all is made up to the healing."""
    folder = tmp_path_factory.mktemp("before") / "run"
    folder.mkdir()
    (folder / "r.yaml").write_text(BEFORE)
    finish(folder)
    return folder


@pytest.mark.parametrize(("way", "variant"), [("perp", "mask_lora"), ("perp", "lora"), ("reconstruct", "mask_lora")])
def test_killed_inside_healing_ends_in_the_same_bytes(way: str, variant: str, pruned: Path, tmp_path: Path, soak: bool) -> None:
    if variant == "lora" and not soak:
        pytest.skip("the same with adapters beside the model: only whole, with --soak")
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    for place in (whole, folder):
        shutil.copytree(pruned, place)
        (place / "r.yaml").write_text(BEFORE + HEALING[way].replace("VARIANT", variant))
    expected = finish(whole)
    assert killed(folder, INSIDE[way], 12 if soak else 1) >= 1
    assert finish(folder) == expected
    if way == "perp":
        records = [json.loads(path.read_bytes()) for path in (folder / "work-space" / "steps").glob("learn.train-*/step.json")]
        assert max(record["facts"]["resumed_at"] for record in records) > 0
