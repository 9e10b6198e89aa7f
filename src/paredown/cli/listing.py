"""`paredown list`: what there is, read from the folders without importing any of it."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from paredown.cli.options import DebugOption, JsonOption

WIDTH = 100  # columns
HELP = """List strategies and parts, all or those under a name.

Example: paredown list prune
"""


def list_(
    family: Annotated[str, typer.Argument(help="A stage or the beginning of a name, such as prune or corpus.clean.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Only those with this taxonomy tag; may be repeated.")] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    from paredown.core import catalog
    from paredown.core.errors import UserError, nearest

    names = [name for name in catalog.paths() if name == family or name.startswith(f"{family}." if family else "")]
    if not names:
        stems = {".".join(name.split(".")[:i]) for name in catalog.paths() for i in range(1, len(name.split(".")) + 1)}
        close = nearest(family, stems)
        raise UserError(
            f"nothing in the catalog begins with {family}", todo=f"did you mean {close[0]}?" if close else "paredown list shows all"
        )
    found = [e for e in map(catalog.entry, names) if set(tag or []) <= set(e.tags)]
    if tag and not found:
        tags = {t for e in map(catalog.entry, names) for t in e.tags}
        close = [n for t in tag if t not in tags for n in nearest(t, tags)]
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(tags))}"
        raise UserError(f"nothing{f' under {family}' if family else ''} has the tag {' and '.join(tag)}", todo=hint)
    if as_json:
        import json

        rows = [
            {
                "name": e.name,
                "kind": e.kind,
                "summary": e.summary,
                "tags": list(e.tags),
                "control": e.control,
                "systems": list(e.systems),
                "broken": e.broken,
            }
            for e in found
        ]
        print(json.dumps({"strategies": rows}, indent=2, ensure_ascii=False))
        return
    width = max((len(e.name) for e in found), default=0)
    kinds = ["" if e.kind == "step" else e.kind.lower() for e in found]
    kind_width = max(map(len, kinds), default=0)
    for e, kind in zip(found, kinds, strict=True):
        head = f"{e.name:<{width}}  " + (f"{kind:<{kind_width}}  " if kind_width else "")
        said = f"BROKEN: {e.broken}" if e.broken else e.summary
        print(textwrap.fill(said, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False))
