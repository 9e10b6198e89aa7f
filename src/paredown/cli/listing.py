"""`paredown list`: what there is, read from the folders without importing any of it."""

from __future__ import annotations

import itertools
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paredown.cli.options import DebugOption, JsonOption
from paredown.core import taxonomy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from paredown.core.catalog import Entry

WIDTH = 100  # columns
LEAST = 30  # columns that a sentence needs beside the others; with fewer it stands below them
HELP = """List strategies and parts, all or those under a name: what each acts on, when, and its idea.

An axis given twice means either value; two axes mean both. The value none finds what says nothing on an axis.

Example: paredown list prune --what weights --needs none
"""


def _axis(name: str) -> Any:
    axis = taxonomy.AXES[name]
    return typer.Option(f"--{name}", metavar="VALUE", help=f"{axis.question} {', '.join(axis.values)}.")


def list_(
    family: Annotated[str, typer.Argument(help="A stage or the beginning of a name, such as prune or corpus.clean.")] = "",
    when: Annotated[list[str] | None, _axis("when")] = None,
    what: Annotated[list[str] | None, _axis("what")] = None,
    how: Annotated[list[str] | None, _axis("how")] = None,
    scope: Annotated[list[str] | None, _axis("scope")] = None,
    speedup: Annotated[list[str] | None, _axis("speedup")] = None,
    needs: Annotated[list[str] | None, _axis("needs")] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    given = {"when": when, "what": what, "how": how, "scope": scope, "speedup": speedup, "needs": needs}
    found = select(family, {axis: values for axis, values in given.items() if values})
    if as_json:
        import json

        print(json.dumps({"strategies": [_row(e) for e in found]}, indent=2, ensure_ascii=False))
        return
    for number, (_, group) in enumerate(itertools.groupby(found, lambda e: e.name.partition(".")[0])):
        if number:
            print()
        print("\n".join(lines(list(group))))


def select(family: str, wanted: dict[str, list[str]]) -> list[Entry]:
    """The entries at or below the name `family` that have one of the wanted values on every axis named, sorted by name.

    Raises:
        UserError: there is no such family or value, or no entry matches.
    """
    from paredown.core import catalog
    from paredown.core.errors import UserError, nearest

    taxonomy.check(wanted)
    names = [name for name in catalog.paths() if name == family or name.startswith(f"{family}." if family else "")]
    if not names:
        stems = {".".join(name.split(".")[:i]) for name in catalog.paths() for i in range(1, len(name.split(".")) + 1)}
        close = nearest(family, stems)
        raise UserError(
            f"nothing in the catalog begins with {family}", todo=f"did you mean {close[0]}?" if close else "paredown list shows all"
        )
    below = [catalog.entry(name) for name in names]
    found = [e for e in below if taxonomy.matches(e.tags, wanted)]
    if not found:
        asked = " ".join(f"--{axis} {value}" for axis, values in wanted.items() for value in values)
        there = [
            f"{axis} {', '.join(values) or taxonomy.NONE}"
            for axis, values in taxonomy.parse(tag for e in below for tag in e.tags).items()
            if axis in wanted
        ]
        raise UserError(f"nothing{f' under {family}' if family else ''} has {asked}", todo=f"there is {'; '.join(there)}")
    return found


def lines(entries: Sequence[Entry]) -> Iterator[str]:
    """The entries as text in columns; a column that would be empty is left out."""
    from paredown.core.evidence import in_words

    rows = []
    for e in entries:
        place = taxonomy.parse(e.tags)
        rows.append((e.name, ", ".join(place["what"]), ", ".join(place["when"]), in_words(e.name)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for e, row in zip(entries, rows, strict=True):
        head = "".join(f"{cell:<{width}}  " for cell, width in zip(row, widths, strict=True) if width)
        said = f"BROKEN: {e.broken}" if e.broken else e.summary
        if WIDTH - len(head) >= LEAST:
            indents = head, " " * len(head)
        else:
            indents = "    ", "    "
            yield head.rstrip()
        yield textwrap.fill(said, WIDTH, initial_indent=indents[0], subsequent_indent=indents[1], break_on_hyphens=False).rstrip()


def _row(e: Entry) -> dict[str, Any]:
    from paredown.core.evidence import rows

    return {
        "name": e.name,
        "kind": e.kind,
        "summary": e.summary,
        "tags": list(e.tags),
        "taxonomy": taxonomy.parse(e.tags),
        "control": e.control,
        "systems": list(e.systems),
        "evidence": rows(e.name),
        "broken": e.broken,
    }
