"""`paredown report`: write the HTML page of a run again, or say where it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paredown.cli.options import DEFAULT, DebugOption, JsonOption, WorkspaceOption

HELP = """Write the HTML report of a recipe's last run: one file that opens offline.

Example: paredown report quickstart --output report.html
"""


def report(
    name: Annotated[str, typer.Argument(help="Name of the recipe; without it the newest run.")] = "",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write it; by default into the workspace.")] = None,
    workspace: WorkspaceOption = DEFAULT,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    import orjson

    from paredown.core.errors import DataError, UserError, nearest
    from paredown.report import write_report

    folder = workspace / "reports"
    runs = {path.stem: path for path in sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime)} if folder.is_dir() else {}
    if not runs:
        raise UserError("no run in this workspace yet", where=str(workspace), todo="paredown run RECIPE")
    wanted = Path(name).stem if name else list(runs)[-1]
    if wanted not in runs:
        close = nearest(wanted, runs)
        raise UserError(
            f"no run of {wanted} in this workspace",
            where=str(workspace),
            todo=f"there are {', '.join(runs)}" + (f"; did you mean {close[0]}?" if close else ""),
        )
    try:
        found = orjson.loads(runs[wanted].read_bytes())
    except ValueError:
        raise DataError(
            "the stored summary is damaged", where=str(runs[wanted]), todo="run the recipe again: all steps are cached"
        ) from None
    target = output or folder / f"{wanted}.html"
    write_report(found, target)
    if as_json:
        print(
            orjson.dumps({"report": str(target), "run": found["run"], "bytes": target.stat().st_size}, option=orjson.OPT_INDENT_2).decode()
        )
    else:
        print(f"report  {target}")
