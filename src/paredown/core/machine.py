"""What machine this is and what a piece of work cost on it: time, memory, energy."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """CPU, cores, memory, system, load; imports nothing heavy."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    flags = cpu_flags()
    level = next((name for name, flag in (("AVX-512", "avx512f"), ("AVX2", "avx2")) if flag in flags), "")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": f"{model} {level}".strip(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": memory,
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
    }


def cpu_flags() -> set[str]:
    """Feature flags of the first CPU as the kernel names them; empty where it names none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return set(line.partition(":")[2].split())
    return set()


def versions() -> dict[str, str]:
    found = {"paredown": metadata.version("paredown"), "python": platform.python_version()}
    for name in ("torch", "transformers", "tokenizers", "polars", "numba", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


class Meter:
    """Cost of what runs between `start` and `stop`, child processes included once they have ended."""

    def __enter__(self) -> Meter:
        self._wall = time.perf_counter()
        self._cpu = _cpu()
        self._energy = energy_joules()
        reset_peak_memory()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._wall
        self.cpu_seconds = _cpu() - self._cpu
        self.peak_memory = peak_memory()
        after = energy_joules()
        self.energy = None if after is None or self._energy is None or after < self._energy else after - self._energy


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def reset_peak_memory() -> None:
    """Make the kernel count the peak from here on, where it lets us."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Peak resident bytes of this process since the last reset."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def available_memory() -> int:
    """Bytes that can be had without swapping."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def energy_joules() -> float | None:
    """Joules of all CPU packages by their own counter (RAPL), or None where there is none to read."""
    total = None
    for path in sorted(Path("/sys/class/powercap").glob("intel-rapl:?/energy_uj")):
        with contextlib.suppress(OSError, ValueError):
            total = (total or 0.0) + int(path.read_text()) / 1e6
    return total


@contextlib.contextmanager
def heartbeat(seconds: float, beat: Any) -> Iterator[None]:
    """Call `beat` every `seconds` from a thread while the block runs."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(seconds):
            beat()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
