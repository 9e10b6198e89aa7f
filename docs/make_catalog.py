"""Writes docs/catalog.md and docs/taxonomy.md from the strategies: python docs/make_catalog.py. A test holds both to the code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from paredown.core import catalog, evidence, taxonomy

PAGE = Path(__file__).parent / "catalog.md"
TAXONOMY = Path(__file__).parent / "taxonomy.md"
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
to be compared with before a saving is believed; the evidence is what `paredown prove` found of the published systems (their numbers in
brackets; [all of it](evidence/README.md)). `paredown show NAME` prints knobs, inputs and costs. When each acts, on what, who gains speed
and what it needs: [taxonomy](taxonomy.md).
"""
TAXONOMY_HEAD = """\
# Taxonomy

<!-- Written by docs/make_catalog.py from the sources; do not edit it by hand. -->

Where every strategy and part stands. The axes are those of the pruning survey of Cheng et al. 2023 (arXiv 2308.06767), widened to data, learning and
answering. `paredown list` takes each axis as an option: `paredown list prune --what weights --needs none` finds pruners of weights that ask
for nothing but the model. An axis given twice means either value, two axes mean both, and `none` finds what says nothing on an axis.
"""
TAXONOMY_TABLE = """\
## Strategies, by what they act on and when

What acts on several things stands at each of them.

"""


def page() -> str:
    """The whole page as it should stand."""
    sections = [HEAD]
    for stage, what in STAGES.items():
        entries = [e for e in catalog.entries() if e.module.startswith(f"paredown.{stage}.")]
        if entries:
            sections.append(f"## {stage}: {what}\n\n{table(['name', 'kind', 'idea', 'control', 'evidence', 'source'], map(row, entries))}")
    return "\n".join(sections)


def taxonomy_page() -> str:
    """The page of the axes, and of every strategy by what it acts on and when."""
    sections = [TAXONOMY_HEAD, "## Axes\n"]
    for axis in taxonomy.AXES.values():
        meanings = table(["value", "means"], [[f"`{value}`", meaning] for value, meaning in axis.values.items()])
        sections.append(f"**{axis.name}** ({axis.rule}): {axis.question}\n\n{meanings}")
    when = list(taxonomy.AXES["when"].values)
    rows, empty = [], []
    for what in taxonomy.AXES["what"].values:
        acting = [e for e in catalog.entries() if e.module.startswith("paredown.") and f"what-{what}" in e.tags]
        rows += [[what if e is acting[0] else "", *placed(e, when)] for e in acting]
        empty += [] if acting else [what]
    sections.append(TAXONOMY_TABLE + table(["what", "strategy", *when, "speed-up", "needs", "chosen by"], rows))
    if empty:
        sections.append(f"Nothing acts on {', '.join(empty)} yet.\n")
    return "\n".join(sections)


def placed(entry: catalog.Entry, when: list[str]) -> list[str]:
    place = taxonomy.parse(entry.tags)
    chosen = ", ".join(place["how"]) + (f" within {', '.join(place['scope'])}" if place["scope"] else "")
    return [
        f"`{entry.name}`",
        *("x" if w in place["when"] else "" for w in when),
        ", ".join(place["speedup"]),
        ", ".join(place["needs"]),
        chosen,
    ]


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in cells] for cells in rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, ["---"] * len(head), *escaped])


def row(entry: catalog.Entry) -> list[str]:
    control = entry.control
    named = re.match(r"[\w.]+", control)
    if named and named[0] in catalog.paths():
        control = f"`{named[0]}`{control[named.end() :]}"
    return [f"`{entry.name}`", entry.kind.lower(), entry.summary, control, evidence.in_words(entry.name), entry.source.rstrip(".")]


if __name__ == "__main__":
    for path, text in ((PAGE, page()), (TAXONOMY, taxonomy_page())):
        path.write_text(text, encoding="utf-8")
        print(f"{path}: {text.count(chr(10))} lines")
