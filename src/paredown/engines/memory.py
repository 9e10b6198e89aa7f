"""Memory that the process holds without using it."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Hand free memory back to the system where the C library can (glibc); elsewhere nothing happens.

    Tensors below 32 MiB come from a heap that only shrinks from its end, so a long series of middling tensors that come and go
    looks like a leak.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return
    trim(0)
