"""Runs one strategy call in several processes on this machine, through torchrun; everything else stays as it was.

The first process writes the output and speaks; what it says (progress, curves, cost, facts) comes back as JSON lines.
A script that was started by torchrun itself needs none of this: each of its processes calls the strategy.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core import errors
from paredown.core.artifact import Artifact
from paredown.core.catalog import build
from paredown.core.context import Context, Listener, context, running
from paredown.core.strategy import Part, Strategy, handed, wires

if TYPE_CHECKING:
    from typing import IO

KINDS: dict[str, type[Artifact]] = {kind.kind: kind for kind in (Model, Tokens, Examples, Corpus)}
NEWS = "news.jsonl"  # in the scratch folder; a file, because torchrun closes every other descriptor of its processes
POLL = 0.05  # seconds between two looks at it
_shared: dict[int, Path] = {}


def inside() -> bool:
    """Whether this process is one of several that torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextlib.contextmanager
def main_first(step: Context) -> Iterator[Path | None]:
    """The output folder in the first process, None in the others, which wait until it is written."""
    if not inside():
        _shared[id(step)] = step.folder
        yield step.output("model")
        return
    from torch import distributed

    main = distributed.get_rank() == 0
    name: list[str | None] = [str(step.folder) if main else None]
    distributed.broadcast_object_list(name)
    _shared[id(step)] = Path(str(name[0]))
    yield step.output("model") if main else None
    distributed.barrier()


def shared(step: Context) -> Path:
    """The folder that the first process wrote to."""
    return _shared.pop(id(step))


def launch(strategy: Strategy, inputs: dict[str, Any], processes: int) -> Model:
    """Call `strategy` with `inputs` in `processes` processes and give its result.

    Raises:
        PareError: as the strategy raised it in the first process.
        KeyboardInterrupt: stopped; the checkpoint was taken.
    """
    step = context()
    step.scratch.mkdir(parents=True, exist_ok=True)
    job = step.scratch / "job.json"
    job.write_text(
        json.dumps(
            {
                "strategy": strategy.spec(),
                "inputs": {name: _packed(value) for name, value in inputs.items()},
                "wires": {path: _packed(value) for path, value in _wired(strategy, inputs)},
                "folder": str(step.folder.absolute()),
                "scratch": str(step.scratch.absolute()),
                "seed": step.seed,
                "name": step.name,
            }
        )
    )
    news = step.scratch / NEWS
    news.write_text("")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nproc-per-node={processes}",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=127.0.0.1:0",
    ]
    # torchrun sets one thread a process where nothing is said; the machine's cores are shared out instead.
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // processes))
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    with open(step.scratch / "processes.log", "wb") as log:
        child = subprocess.Popen(
            [*command, "-m", "paredown.engines.launch", str(job)],
            env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            failure = _listen(_growing(news, child), step)
            code = child.wait()
        except KeyboardInterrupt:
            os.killpg(child.pid, signal.SIGINT)
            child.wait()
            raise
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    if failure:
        raise failure
    if code:
        lines = (step.scratch / "processes.log").read_text(errors="replace").splitlines()
        said = next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "")
        raise errors.MachineError(f"one of {processes} processes failed: {said.strip()}", where=str(step.scratch / "processes.log"))
    return Model(step.folder / "model")


def _wired(strategy: Strategy, inputs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The artifacts that the strategy's parts hold, and those of its inputs."""
    for prefix, holder in (("", strategy), *((f"{name}.", part) for name, part in inputs.items() if isinstance(part, Part))):
        yield from ((prefix + path, artifact) for path, artifact, _ in wires(holder))


def _packed(value: Any) -> Any:
    if isinstance(value, Part):
        return value.spec()
    return {"kind": value.kind, "path": str(value.path.absolute())} if isinstance(value, Artifact) else None


def _unpacked(value: Any) -> Any:
    if value is None:
        return None
    return build(value) if "use" in value else KINDS[value["kind"]](value["path"])


def _growing(path: Path, child: subprocess.Popen[bytes]) -> Iterator[str]:
    """The lines of a file as they come, until the process that has them written is gone."""
    rest = ""
    with open(path) as stream:
        while True:
            over = child.poll() is not None
            *lines, rest = (rest + stream.read()).split("\n")
            yield from lines
            if over:
                return
            if not lines:
                time.sleep(POLL)


def _listen(news: Iterator[str], step: Context) -> errors.PareError | None:
    """Pass on what the first process says, until it is gone; its error, if it had one."""
    for line in news:
        kind, values = json.loads(line)
        if kind == "progress":
            step.progress(*values)
        elif kind == "curve":
            step.listener.curve(*values)
        elif kind == "done":
            step.charge(flops=values["flops"], how=values["how"], tokens=values["tokens"])
            step.facts.update(values["facts"])
            step.says = values["says"]
        elif kind == "error":
            raised: type[errors.PareError] = getattr(errors, values.pop("kind"))
            return raised(values.pop("what"), **values)
    return None


class _Speaker(Listener):
    """Sends what the first process reports to the one that started it."""

    def __init__(self, stream: IO[str] | None) -> None:
        self.stream = stream

    def say(self, kind: str, values: Any) -> None:
        if self.stream is not None:
            self.stream.write(json.dumps([kind, values]) + "\n")
            self.stream.flush()

    def progress(self, done: float, total: float | None, unit: str, note: str) -> None:
        self.say("progress", [done, total, unit, note])

    def curve(self, metric: str, step: int, value: float, tokens: int) -> None:
        self.say("curve", [metric, step, value, tokens])


def main(path: str) -> int:
    """One of the processes."""
    job = json.loads(Path(path).read_text())
    speaker = _Speaker(open(Path(job["scratch"]) / NEWS, "a") if os.environ.get("RANK") == "0" else None)  # noqa: SIM115 - open to the end
    step = Context(Path(job["folder"]), Path(job["scratch"]), job["seed"], job["name"], speaker)
    given = {name: _unpacked(value) for name, value in (job["inputs"] | job["wires"]).items()}
    strategy: Any
    strategy, inputs = handed(build(job["strategy"]), given)
    try:
        with running(step):
            strategy(**inputs)
    except KeyboardInterrupt:
        return 130
    except errors.PareError as error:
        kind = type(error).__name__
        speaker.say("error", {"kind": kind, "what": error.what, "where": error.where, "kept": error.kept, "todo": error.todo})
        return 1
    cost = {"flops": step.cost.flops, "how": step.cost.flops_how, "tokens": step.cost.tokens}
    speaker.say("done", {**cost, "facts": step.facts, "says": step.says})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
