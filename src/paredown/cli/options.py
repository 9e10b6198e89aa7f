"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[Path, typer.Option("--workspace", "-w", metavar="DIR", help="Where results, the ledger and reports live.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output instead of text.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
DEFAULT = Path(".paredown")
RecipeArgument = Annotated[Path, typer.Argument(help="The recipe (YAML).")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="STEP.KNOB=VALUE", help="Override a knob; may be repeated.")]
SizeOption = Annotated[str, typer.Option("--size", metavar="NAME", help="One of the recipe's sizes; without it the recipe as it stands.")]
JobsOption = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Steps to run at once, each in a process of its own.")]
ProcessesOption = Annotated[int, typer.Option("--processes", min=0, help="Processes for document work; 0 means one a core.")]


def _engine(value: str) -> str:
    if value not in ("local", "ray"):
        from paredown.core.errors import UserError

        raise UserError(f"--engine: {value!r} is none of local, ray")
    return value


EngineOption = Annotated[
    str, typer.Option("--engine", callback=_engine, help="Where document shards, and with --jobs steps, are worked on: local or ray.")
]
NoReportOption = Annotated[bool, typer.Option("--no-report", help="Do not write the HTML report.")]
