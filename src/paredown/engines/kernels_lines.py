"""Line lengths and alphanumeric characters of documents, for rules on source code; compiled, without the GIL.

As in kernels_text.py no compiled function here calls one of another file.
"""

from __future__ import annotations

import numba
import numpy as np

from paredown.engines.compiled import OPTIONS
from paredown.engines.kernels_text import WIDE, WORD

LINES = ("characters", "lines", "line_characters", "longest_line", "alphanumeric")


@numba.njit(**OPTIONS)
def scan_lines(values, offsets, classes, leads, out):  # type: ignore[no-untyped-def]
    """out[d] are the numbers named in LINES; lines end at a line feed, lengths are in characters without it."""
    for d in range(offsets.size - 1):
        i = np.uint64(offsets[d])
        stop = np.uint64(offsets[d + 1])
        characters = longest = lines = alphanumeric = line = 0
        while i < stop:
            c = values[i]
            k = leads[c]
            i += np.uint64(1)
            characters += 1
            if k & WIDE:
                more = 1 + (c >= 0xE0) + (c >= 0xF0)
                point = np.uint32(c) & np.uint32(0x3F >> more)
                for _ in range(more):
                    point = point << np.uint32(6) | (np.uint32(values[i]) & np.uint32(63))
                    i += np.uint64(1)
                k = classes[point]
            elif c == 10:
                lines += 1
                longest = max(longest, line)
                line = 0
                continue
            line += 1
            alphanumeric += (k & WORD) != 0 and c != 95
        feeds = lines
        if line:
            lines += 1
            longest = max(longest, line)
        out[d, 0] = characters
        out[d, 1] = lines
        out[d, 2] = characters - feeds
        out[d, 3] = longest
        out[d, 4] = alphanumeric
