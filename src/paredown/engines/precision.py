"""Which device and which number format a machine should train in; answered without importing torch where possible.

The answers are part of a step's key, so they are needed while planning, long before torch is.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from paredown.core.errors import UserError

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16"]
NATIVE_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # x86 flags, and the feature's name on Arm
WIDE = 128  # hidden size from which bf16 pays on a CPU
CPUINFO = Path("/proc/cpuinfo")
NVIDIA = Path("/dev")  # nvidia0, nvidia1, ... stand here where the driver sees a GPU


def resolve_device(setting: str = "auto") -> str:
    """`auto` becomes `cuda` where torch was built with CUDA and the driver shows a GPU, otherwise `cpu`."""
    if setting != "auto":
        return setting
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return "cpu"
    return "cuda" if any(NVIDIA.glob("nvidia[0-9]*")) and torch_has_cuda() else "cpu"


def resolve_precision(setting: str = "auto", device: str = "cpu") -> str:
    """`auto` becomes `bf16` only where the machine multiplies bf16 natively; otherwise `fp32`.

    Emulated bf16 is no small loss: on an AVX2-only CPU a bf16 matrix product took 130 times as long as one in fp32.

    Raises:
        UserError: the setting is none of auto, fp32, bf16.
    """
    if setting in ("fp32", "bf16"):
        return setting
    if setting != "auto":
        raise UserError(f"precision: {setting!r} is none of auto, fp32, bf16")
    if device.startswith("cuda"):
        return "bf16" if cuda_has_bf16() else "fp32"
    if device != "cpu":
        return "fp32"
    flags = cpu_flags()
    native = bf16_is_faster() if flags is None else bool(flags & NATIVE_BF16)
    return "bf16" if native else "fp32"


def suited_precision(setting: str, device: str, module: torch.nn.Module) -> str:
    """`resolve_precision` for this module: on a CPU `auto` is `fp32` for narrow ones, whose products are too small to pay for the casts.

    Measured with Llama shapes on one core with avx512_bf16: a step in bf16 took 1.5 times as long as in fp32 at a width of 64, 0.9 at 128,
    0.6 at 256.
    """
    found = resolve_precision(setting, device)
    return "fp32" if setting == "auto" and device == "cpu" and width(module) < WIDE else found


def width(module: torch.nn.Module) -> int:
    """The largest matrix's shorter side: a language model's hidden size, an image network's channels."""
    return max((min(len(weight), weight[0].numel()) for weight in module.parameters() if weight.ndim > 1 and len(weight)), default=0)


def cpu_flags() -> frozenset[str] | None:
    """Features of the CPU as the kernel names them; None where they cannot be read."""
    try:
        text = CPUINFO.read_text(errors="replace")
    except OSError:
        return None
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return frozenset(found.group(1).split()) if found else None


@functools.cache
def torch_has_cuda() -> bool:
    """Whether the installed torch was built for CUDA, from its version file."""
    found = importlib.util.find_spec("torch")
    if found is None or not found.origin:
        return False
    try:
        text = (Path(found.origin).parent / "version.py").read_text()
    except OSError:
        return False
    return re.search(r"^cuda\b[^=]*=\s*['\"]\d", text, re.MULTILINE) is not None


@functools.cache
def cuda_has_bf16() -> bool:
    """Compute capability 8.0 or later, asked of the driver's tool and, where that is silent, of torch."""
    tool = shutil.which("nvidia-smi")
    if tool:
        asked = subprocess.run(
            [tool, "--query-gpu=compute_cap", "--format=csv,noheader"], capture_output=True, text=True, timeout=20, check=False
        )
        versions = [float(line) for line in asked.stdout.split() if re.fullmatch(r"\d+\.\d+", line)]
        if versions:
            return min(versions) >= 8.0
    import torch

    return torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8


@functools.cache
def bf16_is_faster(size: int = 512, rounds: int = 5) -> bool:
    """Time square matrix products in both formats; for CPUs whose features cannot be read (0.1 s beside importing torch)."""
    import time

    import torch

    def best(dtype: torch.dtype) -> float:
        a = torch.ones(size, size, dtype=dtype)
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            a @ a
            times.append(time.perf_counter() - start)
        return min(times)

    return best(torch.bfloat16) < 0.8 * best(torch.float32)


def machine_of(device: str) -> str:
    """A short name of what computes, for the ledger."""
    return device if device != "cpu" else f"cpu ({platform.machine()})"
