"""`paredown doctor`: is this machine and this workspace sound?"""

from __future__ import annotations

import shutil
from typing import Annotated, Any

import typer

from paredown.cli.options import DEFAULT, DebugOption, JsonOption, WorkspaceOption

HELP = """Check the machine, the catalog and the workspace; with --verify compare every checksum.

Example: paredown doctor --verify
"""


def doctor(
    verify: Annotated[bool, typer.Option("--verify", help="Read every artifact and compare its checksums.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Remove damaged steps; the next run makes them again.")] = False,
    workspace: WorkspaceOption = DEFAULT,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    from paredown.cli.screen import print_json, size
    from paredown.core import catalog, machine
    from paredown.core.ledger import Ledger
    from paredown.core.workspace import Workspace

    here = machine.describe()
    broken = {e.name: e.broken for e in catalog.entries() if e.broken}
    found: dict[str, Any] = {
        "machine": here, "versions": machine.versions(), "strategies": len(catalog.paths()), "broken": broken, "workspace": str(workspace),
        "damaged": {}, "removed": [], "unfinished": [], "ledger": [], "answers": [],
    }  # fmt: skip
    if workspace.exists():
        place = Workspace(workspace)
        damage = place.damage(deep=verify)
        found["damaged"] = {folder.name: problems for folder, problems in damage.items()}
        found["unfinished"] = [folder.name for folder in place.unfinished()]
        found["ledger"] = Ledger(place.ledger_path).check()
        found["answers"] = _answers(place)
        found["disk_free"] = shutil.disk_usage(workspace).free
        if repair:
            found["removed"] = [folder.name for folder in damage if place.remove(folder, _key(folder))]
    sound = not broken and not found["ledger"] and not found["answers"] and len(found["damaged"]) == len(found["removed"])
    if as_json:
        print_json({**found, "sound": sound})
        return 0 if sound else 1
    print(f"machine    {here['cpu']}, {here['cores']} cores, {size(here['memory_bytes'])}, {here['system']}, load {here['load']}")
    print("versions   " + ", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    print(f"catalog    {found['strategies']} strategies and parts, {len(broken)} broken")
    for name, reason in broken.items():
        print(f"           {name}: {reason}")
    if "disk_free" in found:
        steps = len(list((workspace / "steps").iterdir()))
        print(f"workspace  {workspace}: {steps} steps, {len(found['unfinished'])} unfinished, {size(found['disk_free'])} free on its disk")
        print(f"ledger     {'; '.join(found['ledger']) or 'sound'}")
        print(f"answers    {'; '.join(found['answers']) or 'sound'}")
        word = "all checksums compared" if verify else "checksums not compared (--verify does)"
        print(f"artifacts  {len(found['damaged'])} damaged, {word}")
        for name, problems in found["damaged"].items():
            state = "removed" if name in found["removed"] else "paredown doctor --verify --repair removes it"
            print(f"           {name}: {'; '.join(problems)}  ({state})")
    else:
        print(f"workspace  {workspace}: none yet")
    return 0 if sound else 1


def _answers(place: Any) -> list[str]:
    """What is wrong with the stored answers."""
    from paredown.core.errors import PareError
    from paredown.engines.answer_store import STORE, Store

    if not (place.path / STORE).exists():
        return []
    try:
        with Store(place.path / STORE) as store:
            return store.check()
    except PareError as error:
        return [error.what]


def _key(folder: Any) -> str:
    """The key that a step folder's lock goes by; a folder without a readable step.json has none that a run could hold."""
    import json

    try:
        return str(json.loads((folder / "step.json").read_bytes())["key"])
    except (OSError, ValueError, KeyError):
        return str(folder.name.rpartition("-")[2])
