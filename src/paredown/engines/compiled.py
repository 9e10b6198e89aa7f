"""How the kernels are compiled: without the GIL, and kept on disk where the machine lets us."""

from __future__ import annotations

import warnings
from typing import Any

import numba


def _probe() -> None:
    """Decorated once to learn whether numba finds a folder to keep compiled code in."""


def _can_cache() -> bool:
    try:
        numba.njit(cache=True)(_probe)
    except RuntimeError:  # numba's own word for: no place to write to, neither beside the source nor in the home folder
        warnings.warn(
            "compiled kernels cannot be kept, so every process compiles them again (about 10 s): "
            "neither the package's folder nor the user's cache is writable; set NUMBA_CACHE_DIR to a folder that is",
            stacklevel=2,
        )
        return False
    return True


OPTIONS: dict[str, Any] = {"nogil": True, "cache": _can_cache(), "boundscheck": False, "error_model": "numpy"}
