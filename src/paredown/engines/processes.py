"""Devices, precision and several processes of a training, all of it through accelerate; and its random numbers."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from paredown.core.errors import MachineError, UserError
from paredown.engines.checkpoints import fill, whole

if TYPE_CHECKING:
    from types import FrameType


class Processes:
    """The processes of one training, this one among them. Started by torchrun, or alone."""

    def __init__(
        self, parallel: str, precision: str, device: str, trackers: tuple[str, ...] = (), folder: str = "", *, partial: bool = False
    ) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from accelerate.state import AcceleratorState, PartialState

        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world > 1 and parallel == "none":
            raise UserError(f"{world} processes were started, but parallel is none", todo="set parallel: ddp or parallel: fsdp")
        _check_trackers(trackers, folder)
        if world > 1 and not torch.distributed.is_initialized():
            atexit.register(_leave)
        AcceleratorState._reset_state()  # accelerate keeps one state a process; each training chooses anew
        if world == 1:
            PartialState._reset_state()
        plugin = None
        if parallel == "fsdp":
            from accelerate import FullyShardedDataParallelPlugin

            os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
            plugin = FullyShardedDataParallelPlugin(
                fsdp_version=2, cpu_ram_efficient_loading=False, auto_wrap_policy="transformer_based_wrap"
            )
        self.accelerator = Accelerator(
            mixed_precision="bf16" if precision == "bf16" else "no",
            cpu=device == "cpu",
            log_with=list(trackers) or None,
            project_dir=folder or None,
            fsdp_plugin=plugin,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)] if partial else None,
        )
        self.device: torch.device = self.accelerator.device
        self.world: int = self.accelerator.num_processes
        self.rank: int = self.accelerator.process_index
        self.main = self.rank == 0
        self.shards = plugin is not None
        self._tracking = bool(trackers)
        if trackers:
            self.accelerator.init_trackers("paredown")

    def __enter__(self) -> Processes:
        self._deterministic = torch.are_deterministic_algorithms_enabled()
        self._filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        if self.device.type == "cpu":  # on a CPU this costs nothing once memory is not filled for it
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        return self

    def __exit__(self, *exception: object) -> None:
        torch.use_deterministic_algorithms(self._deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = self._filling  # type: ignore[attr-defined]
        if self._tracking:
            for tracker in self.accelerator.trackers:
                tracker.finish()
        self.accelerator.free_memory()

    def prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The module as it is to be called, and the optimizer of its weights."""
        forward, wrapped = self.accelerator.prepare(module, optimizer)
        return forward, wrapped.optimizer

    def unwrap(self, forward: nn.Module) -> nn.Module:
        inner: nn.Module = self.accelerator.unwrap_model(forward, keep_fp32_wrapper=True)
        return inner

    def finish(self, forward: nn.Module, module: nn.Module, copy: nn.Module | None) -> nn.Module:
        """The plain module on the CPU; where it was sharded, the main process's copy is filled."""
        if self.shards:
            weights = dict(copy.named_parameters()) | dict(copy.named_buffers()) if copy is not None else {}
            for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
                value = whole(tensor)
                if name in weights:
                    fill(weights[name], value)
            if copy is not None and hasattr(module, "config"):
                copy.config = module.config  # the training may have noted there how the module is to be asked
            return copy if copy is not None else module
        plain: nn.Module = self.accelerator.unwrap_model(getattr(forward, "_orig_mod", forward), keep_fp32_wrapper=False)
        return plain.to("cpu")

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        found: contextlib.AbstractContextManager[Any] = self.accelerator.autocast()
        return found

    def no_sync(self, forward: nn.Module, more: bool) -> contextlib.AbstractContextManager[Any]:
        """Where more micro-batches follow, gradients wait for the last one before they are exchanged."""
        if self.world == 1 or not more or self.shards:
            return contextlib.nullcontext()
        found: contextlib.AbstractContextManager[Any] = self.accelerator.no_sync(forward)
        return found

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def sum(self, total: Tensor, *counts: int) -> tuple[Any, ...]:
        """Sums over all processes."""
        if self.world == 1:
            return total, *counts
        packed = torch.tensor([0.0, *counts], dtype=torch.float64, device=self.device)
        packed[0] = total.double()
        summed = self.accelerator.reduce(packed, "sum")
        return summed[0], *(int(x) for x in summed[1:].tolist())

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """True where it is true in any process, so that all act alike."""
        if self.world == 1:
            return flags
        summed = self.accelerator.reduce(torch.tensor([float(f) for f in flags], device=self.device), "sum")
        return tuple(bool(x > 0) for x in summed.tolist())

    def leader(self, value: float) -> float:
        """The main process's value."""
        return value if self.world == 1 else float(self.sum(torch.tensor(value if self.main else 0.0, dtype=torch.float64))[0])

    def wait(self) -> None:
        if self.world > 1:
            self.accelerator.wait_for_everyone()

    def track(self, values: dict[str, float], step: int) -> None:
        if self._tracking:
            self.accelerator.log(values, step=step)


def _leave() -> None:
    """At the end of a process: threads of a group that is still open would abort it."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _check_trackers(names: tuple[str, ...], folder: str) -> None:
    """Trackers that accelerate knows, whose packages are installed and that have a place to write to."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    installed = {str(tracker) for tracker in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise UserError(f"no tracker {name}; there are {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}")
        if name not in installed:
            raise MachineError(f"the tracker {name} cannot start: its Python package is not installed", todo=f"pip install {name}")
        if LOGGER_TYPE_TO_CLASS[name].requires_logging_directory and not folder:
            raise UserError(f"the tracker {name} writes files: say where", todo="set tracker_folder")


def reseed(seed: int, *salt: object) -> int:
    """Set every global random generator from (seed, salt); returns the seed used, below 2^63."""
    digest = hashlib.sha256(repr((seed, *salt)).encode()).digest()
    value = int.from_bytes(digest[:8], "little") >> 1
    if torch.accelerator.is_available():
        torch.manual_seed(value)
    else:  # the same without looking for devices, which takes a millisecond each time
        torch.default_generator.manual_seed(value)
    random.seed(value)
    np.random.seed(value & 0xFFFFFFFF)
    return value


@contextlib.contextmanager
def private_randomness() -> Iterator[None]:
    """Leave the caller's random generators as they were."""
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        random.setstate(before[1])
        np.random.set_state(before[2])


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C waits for the end of the step, so that the checkpoint is of a whole step; a second one does not wait."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, previous if callable(previous) else signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, previous)
