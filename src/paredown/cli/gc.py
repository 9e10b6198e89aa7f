"""`paredown gc`: show, and with --yes delete, what no recipe needs any more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from paredown.cli.options import DEFAULT, DebugOption, JsonOption, WorkspaceOption

HELP = """Show what can go: steps that no recipe known here names any more, and unfinished work. Deletes only with --yes.

Answers of servers and models are kept, because they were paid for; with --answers they can go, too.

Example: paredown gc --yes
"""


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete what is shown.")] = False,
    answers: Annotated[bool, typer.Option("--answers", help="Stored answers can go, too; they will be paid for again.")] = False,
    workspace: WorkspaceOption = DEFAULT,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    from paredown.cli.screen import print_json, size
    from paredown.core.errors import UserError
    from paredown.core.ledger import Ledger
    from paredown.core.workspace import Workspace, folder_bytes

    if not workspace.exists():
        raise UserError("there is no workspace here", where=str(workspace))
    place = Workspace(workspace)
    ledger = Ledger(place.ledger_path)
    kept, recipes = _kept(ledger)
    rows: list[dict[str, Any]] = []
    for record in place.records():
        if record.key not in kept:
            rows.append({"folder": record.folder, "key": record.key, "bytes": folder_bytes(record.folder), "why": "no recipe names it"})
    for folder in place.unfinished():
        rows.append({"folder": folder, "key": folder.name, "bytes": folder_bytes(folder), "why": "unfinished"})
    if yes:
        for row in rows:
            row["removed"] = place.remove(row["folder"], row["key"])
    stored = _answers(place, delete=yes and answers)
    total = sum(row["bytes"] for row in rows)
    if as_json:
        print_json(
            {
                "kept_for": recipes,
                "bytes": total,
                "deleted": yes,
                "folders": [{**row, "folder": str(row["folder"])} for row in rows],
                "answers": stored,
            }
        )
        return
    for row in rows:
        print(f"  {row['folder'].name:<50} {size(row['bytes']):>10}  {row['why']}")
    verb = "freed" if yes else "can be freed"
    print(f"{size(total)} {verb} in {len(rows)} folders; kept what these recipes name: {', '.join(recipes) or 'none'}")
    for row in stored:
        state = "deleted" if row["removed"] else "kept; --answers lets them go" if not answers else "can go"
        print(f"  {row['answers']:,} answers of {row['answerer']}, {size(row['bytes'])}: {state}")
    if (rows or (stored and answers)) and not yes:
        print("nothing was deleted; paredown gc --yes deletes")


def _answers(place: Any, *, delete: bool) -> list[dict[str, Any]]:
    """What is stored of each answerer; with `delete` it is gone afterwards."""
    from paredown.engines.answer_store import STORE, Store

    if not (place.path / STORE).exists():
        return []
    with Store(place.path / STORE) as store:
        rows = [{"answerer": name, "answers": count, "bytes": size, "removed": delete} for name, count, size in store.contents()]
        if delete:
            store.clear()
    return rows


def _kept(ledger: Any) -> tuple[set[str], list[str]]:
    """Keys that a recipe still names: those of its last run here and those that its file asks for as it stands."""
    from paredown.core import plan as plans
    from paredown.core import recipe as recipes
    from paredown.core.errors import PareError

    kept: set[str] = set()
    names = []
    for file, run in ledger.recipes():
        if not Path(file).exists():
            continue
        names.append(file)
        kept |= ledger.keys_of(run)
        try:
            kept |= set(plans.make(recipes.load(file)).tasks)
        except PareError:  # a recipe in the middle of an edit keeps what its last run used
            continue
    return kept, names
