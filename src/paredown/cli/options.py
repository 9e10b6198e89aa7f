"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[Path, typer.Option("--workspace", "-w", metavar="DIR", help="Where results, the ledger and reports live.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output instead of text.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
DEFAULT = Path(".paredown")
