"""The report: one HTML file, which opens offline, from the summary object of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def write_report(summary: dict[str, Any], path: Path) -> None:
    """Write the page of a run. `summary` is the object that `paredown run --json` prints.

    Charts need the extra `report` (altair, vl-convert); without them their figures stand in tables.

    Raises:
        MissingExtra: jinja2 is not installed.
        DataError: the summary has a format that this version does not know.
    """
    from paredown.report.page import render

    text = render(summary)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
