"""The published systems that the strategies come from: number, short name, stage, arXiv id and title of each."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from paredown.core.errors import UserError, nearest

FILE = Path(__file__).with_name("systems.tsv")


@dataclass(frozen=True)
class System:
    number: int  # from 1, without gaps
    slug: str  # short name, such as rethinking-pruning
    stage: str  # the stage of the package that most of it belongs to
    arxiv: str  # id without version, such as 1810.05270
    title: str  # as published

    def __str__(self) -> str:
        return f"{self.number:03d}-{self.slug}"


@functools.cache
def systems() -> tuple[System, ...]:
    """All of them, by number."""
    _, *lines = FILE.read_text(encoding="utf-8").splitlines()
    return tuple(System(int(number), *rest) for number, *rest in (line.split("\t") for line in lines))


def find(text: str) -> System:
    """The system of a number (`41` or `041`), a slug, or both (`041-rethinking-pruning`).

    Raises:
        UserError: there is none; the nearest slug is given.
    """
    wanted = text.strip().lower()
    if wanted.isascii() and wanted.isdigit():
        if 1 <= int(wanted) <= len(systems()):
            return systems()[int(wanted) - 1]
        raise UserError(f"there is no system {text}", todo=f"they are numbered 1 to {len(systems())}")
    for system in systems():
        if wanted in (system.slug, str(system)):
            return system
    close = nearest(wanted, [name for system in systems() for name in (system.slug, str(system))])
    hint = (
        f"did you mean {close[0]}?" if close else f"give a number from 1 to {len(systems())} or a short name such as {systems()[-1].slug}"
    )
    raise UserError(f"there is no system {text}", todo=hint)
