"""Runs recipes of toy strategies, in this process or as a program that can be stopped, and reads what they left."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from paredown.core import recipe as recipes
from paredown.core import runner
from paredown.core.ledger import Ledger
from paredown.core.plan import Plan, make
from paredown.core.workspace import Record, Workspace


def run(text: str, path: Path, jobs: int = 1) -> tuple[Plan, dict[str, Record]]:
    """Make every step of a recipe's text in the workspace at `path`."""
    plan = make(recipes.loads(text))
    workspace = Workspace(path)
    ledger = Ledger(workspace.ledger_path)
    run_id = uuid.uuid4().hex
    ledger.start_run(run_id, "t", "t.yaml", {}, {})
    return plan, runner.run(plan, workspace, runner.Reporter(), runner.Settings(jobs=jobs), run_id, ledger)


def artifact_bytes(workspace: Path) -> dict[str, bytes]:
    """All bytes of a workspace's artifacts by path; step.json holds times and is left out."""
    steps = workspace / "steps"
    return {p.relative_to(steps).as_posix(): p.read_bytes() for p in sorted(steps.rglob("*")) if p.is_file() and p.name != "step.json"}


def loaded(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    """The object that a call with --json printed, which ended with the code."""
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The program in a process group of its own."""
    command = [sys.executable, "-m", "paredown.cli.main", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(process: subprocess.Popen[str], folder: Path, pattern: str, count: int = 1) -> None:
    """Until so many files match the pattern below the folder; fails where the program ends before, or after a minute."""
    deadline = time.monotonic() + 60
    while len(list(folder.glob(pattern))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"nothing at {pattern}"
        time.sleep(0.02)
