"""Shared set-up: the toy plug-in package is on the path, as an installed third party's would be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PLUGIN = str(HERE / "plugin")
sys.path.insert(0, PLUGIN)
os.environ["PYTHONPATH"] = os.pathsep.join([PLUGIN, *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the program sets it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's & asks for it, and programs that tests start and stop would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long reliability tests whole")


@pytest.fixture
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether the long form of a reliability test was asked for."""
    return bool(request.config.getoption("--soak"))


Paredown = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def paredown(tmp_path: Path) -> Paredown:
    """Run the program as a user would, in an empty folder."""

    def call(
        *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "paredown.cli.main", *arguments],
            cwd=cwd or tmp_path, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip

    return call


@pytest.fixture
def within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Paredown]:
    """The same in this process: quick, for calls that end before anything heavy is imported."""
    from paredown.cli import main

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["paredown", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main.main()
        said = capfd.readouterr()
        assert isinstance(stopped.value.code, int)
        return subprocess.CompletedProcess(list(arguments), stopped.value.code, said.out, said.err)

    yield call
    signal.signal(signal.SIGTERM, handler)
