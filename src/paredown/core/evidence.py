"""What `prove` found, as the catalog shows it: verdicts by published system and by strategy, from one small file."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paredown.core import catalog

INDEX = "index.json"
ORDER = ("holds", "fails", "undecided", "no verdict", "control")


@dataclass(frozen=True)
class Finding:
    """One claim in which a strategy was tested, or was the control."""

    system: int
    verdict: str


def folder() -> Path:
    """Where evidence lies."""
    return catalog.shipped("evidence", "docs/evidence")


@functools.cache
def index(place: Path | None = None) -> dict[str, Any]:
    """`systems`: number to what was found; `strategies`: name to [[system, verdict], ...]. Empty where nothing was proved."""
    try:
        loaded = json.loads(((place or folder()) / INDEX).read_bytes())
        return {key: dict(loaded[key]) for key in ("systems", "strategies")}
    except (OSError, ValueError, KeyError, TypeError):
        return {"systems": {}, "strategies": {}}


def of(strategy: str) -> list[Finding]:
    """Every claim that says something of a strategy, by system."""
    return [Finding(int(system), verdict) for system, verdict in index()["strategies"].get(strategy, [])]


def rows(strategy: str) -> list[dict[str, Any]]:
    """The same as JSON objects."""
    return [{"system": found.system, "verdict": found.verdict} for found in of(strategy)]


def in_words(strategy: str) -> str:
    """For one column: `holds (041)`, `holds, undecided`, `control`; empty where no evidence speaks of it."""
    found = of(strategy)
    tested = [f for f in found if f.verdict != "control"] or found
    verdicts = [verdict for verdict in ORDER if any(f.verdict == verdict for f in tested)]
    systems = sorted({f.system for f in tested})
    if verdicts == ["control"] or len(systems) != 1:
        return ", ".join(verdicts)
    return f"{', '.join(verdicts)} ({systems[0]:03d})"
