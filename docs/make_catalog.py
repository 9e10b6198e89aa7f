"""Writes docs/catalog.md from the cards of the strategies: python docs/make_catalog.py. A test holds the page to the code."""

from __future__ import annotations

import re
from pathlib import Path

from paredown.core import catalog

PAGE = Path(__file__).parent / "catalog.md"
STAGES = {
    "corpus": "what the model reads",
    "learn": "how it learns",
    "prune": "what it can lose",
    "tune": "how it is adapted",
    "infer": "how it answers",
    "measure": "what is left, and what it costs",
}
HEAD = """\
# Catalog

<!-- Written by docs/make_catalog.py from the sources; do not edit it by hand. -->

Every strategy and part that comes with paredown. A strategy is a step of a recipe; a part plugs into a step's field. The control is what a strategy has
to be compared with before a saving is believed. `paredown show NAME` prints knobs, inputs and costs, `paredown list --tag TAG` picks by tag.
"""


def page() -> str:
    """The whole page as it should stand."""
    sections = [HEAD]
    for stage, what in STAGES.items():
        entries = [e for e in catalog.entries() if e.module.startswith(f"paredown.{stage}.")]
        if entries:
            rows = ["| name | kind | idea | control | source |", "| --- | --- | --- | --- | --- |", *map(row, entries)]
            sections.append("\n".join([f"## {stage}: {what}", "", *rows, ""]))
    return "\n".join(sections)


def row(entry: catalog.Entry) -> str:
    control = entry.control
    named = re.match(r"[\w.]+", control)
    if named and named[0] in catalog.paths():
        control = f"`{named[0]}`{control[named.end() :]}"
    cells = (f"`{entry.name}`", entry.kind.lower(), entry.summary, control, entry.source.rstrip("."))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {page().count(chr(10) + '| `')} strategies and parts")
