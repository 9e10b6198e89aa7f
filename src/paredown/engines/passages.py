"""Documents in passages that can be worked on alone: cut at paragraphs, sentences, or words, and nothing is lost."""

from __future__ import annotations

import re
from itertools import pairwise

WORD = re.compile(r"\S+")
BREAKS = (  # where to cut, best first: behind paragraphs, lines, sentences, words
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile(r"\n\s*"),
    re.compile(r"[.!?][\"')\]]*\s+"),
    re.compile(r"\s+"),
)


def words(text: str) -> int:
    return sum(1 for _ in WORD.finditer(text))


def passages(text: str, most: int) -> list[str]:
    """Slices of a text of at most `most` words each; laid end to end they are the text.

    Cut is at the best kind of break that makes pieces small enough, and pieces are joined again as far as the bound allows.
    """
    return _joined(_pieces(text, most, 0), most) if text else []


def _pieces(text: str, most: int, level: int) -> list[str]:
    if words(text) <= most or level == len(BREAKS):
        return [text]
    ends = [match.end() for match in BREAKS[level].finditer(text)]
    cuts = [0, *(end for end in ends if 0 < end < len(text)), len(text)]
    return [piece for begin, end in pairwise(cuts) for piece in _pieces(text[begin:end], most, level + 1)]


def _joined(pieces: list[str], most: int) -> list[str]:
    """Neighbours joined greedily, as many as the bound allows."""
    found: list[str] = []
    size = 0
    for piece in pieces:
        more = words(piece)
        if found and size + more <= most:
            found[-1] += piece
            size += more
        else:
            found.append(piece)
            size = more
    return found
