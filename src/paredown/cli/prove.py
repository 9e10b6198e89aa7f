"""`paredown prove`: run the recipe of a published system and write down what is true of its claims here."""

from __future__ import annotations

import collections
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paredown.cli.options import DEFAULT, DebugOption, EngineOption, JobsOption, JsonOption, ProcessesOption, WorkspaceOption

if TYPE_CHECKING:
    from paredown.core.plan import Plan
    from paredown.core.systems import System

HELP = """Run the recipes of published systems against their honest controls and write the evidence, whatever it says.

Name systems by number or short name, or strategies to prove all that use them. Without a name: all that have a recipe. What
ran before is not run again.

Example: paredown prove 041
"""
SMALL = "small"


def prove(
    names: Annotated[list[str] | None, typer.Argument(help="Numbers, short names or strategies, such as 041 or prune.channels.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="List all published systems and what was found; run nothing.")] = False,
    size: Annotated[str, typer.Option("--size", metavar="NAME", help="small (two cores, minutes) or another size of the recipes, such as gpu.")] = SMALL,
    evidence: Annotated[Path | None, typer.Option("--evidence", metavar="DIR", help="Where to write; by default docs/evidence of the checkout.")] = None,
    papers: Annotated[Path | None, typer.Option("--papers", metavar="DIR", help="Where the recipes lie; by default those of the package.")] = None,
    workspace: WorkspaceOption = DEFAULT,
    jobs: JobsOption = 1,
    processes: ProcessesOption = 0,
    engine: EngineOption = "local",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> int:  # fmt: skip
    from paredown.core import catalog
    from paredown.core import evidence as found_before

    folder = evidence or found_before.folder()
    files = recipes_of(papers or catalog.shipped("papers"))
    if listing:
        return _list(files, folder, as_json)
    planned = [(system, [_plan(system, file, size) for file in files[system.number]]) for system in choose(names or [], files)]
    from paredown.cli import running, screen
    from paredown.core.compare import counted
    from paredown.core.workspace import Workspace

    place, how = Workspace(workspace), running.How(jobs, processes, engine, as_json)
    rows = []
    start = time.monotonic()
    for number, (system, plans) in enumerate(planned, 1):
        if len(planned) > 1 and not as_json:
            print(f"\nsystem {number} of {len(planned)}: {system}")
        row = _prove(system, plans, size, place, how, folder)
        if row is None:
            break
        rows.append(row)
    done = len(rows) == len(planned)
    if as_json:
        screen.print_json({"size": size, "evidence": str(folder), "status": "done" if done else "interrupted", "systems": rows})
    elif done and len(rows) > 1:
        verdicts = [verdict for row in rows for verdict in row["verdicts"]]
        print(f"\n{len(rows)} systems  {counted(verdicts)}; {screen.seconds(time.monotonic() - start)}; {folder / 'README.md'}")
    return 0 if done else 130


def recipes_of(folder: Path) -> dict[int, list[Path]]:
    """System number to its recipes: NNN-slug.yaml, then NNN-slug.part.yaml by name."""
    found: dict[int, list[Path]] = collections.defaultdict(list)
    for path in sorted(folder.glob("[0-9][0-9][0-9]-*.yaml"), key=lambda p: (p.name.count("."), p.name)):
        found[int(path.name[:3])].append(path)
    return dict(found)


def choose(names: list[str], files: dict[int, list[Path]]) -> list[System]:
    """The systems that are meant, by number.

    Raises:
        UserError: there is no such system or strategy, or nothing to run for it.
    """
    from paredown.core import catalog, systems
    from paredown.core.errors import UserError

    if not files:
        raise UserError("there are no recipes of published systems here", todo="give their folder with --papers")
    if not names:
        return [systems.systems()[number - 1] for number in sorted(files)]
    found = {}
    for name in names:
        if "." in name:  # no short name has one
            catalog.find(name)
            word = re.compile(rf"(?<![\w.]){re.escape(name)}(?!\w|\.\w)")
            using = [number for number, paths in files.items() if any(word.search(path.read_text(encoding="utf-8")) for path in paths)]
            if not using:
                raise UserError(f"no recipe of a published system uses {name} yet", todo="paredown prove --list shows what there is")
            found.update({number: systems.systems()[number - 1] for number in using})
            continue
        system = systems.find(name)
        if system.number not in files:
            raise UserError(f"{system} is not built yet", todo="paredown prove --list shows what there is")
        found[system.number] = system
    return [found[number] for number in sorted(found)]


def _list(files: dict[int, list[Path]], folder: Path, as_json: bool) -> int:
    from paredown.core import evidence
    from paredown.core.compare import counted
    from paredown.core.systems import systems

    known = evidence.index(folder)["systems"]
    rows: list[dict[str, Any]] = []
    for system in systems():
        entry = known.get(str(system.number))
        status = "not built yet" if system.number not in files else "not run yet" if entry is None else counted(entry["verdicts"])
        rows.append(
            {
                "system": system.number,
                "slug": system.slug,
                "stage": system.stage,
                "arxiv": system.arxiv,
                "title": system.title,
                "status": status,
            }
        )
    if as_json:
        from paredown.cli.screen import print_json

        print_json({"systems": rows})
        return 0
    width = max(len(row["slug"]) for row in rows)
    for row in rows:
        print(f"{row['system']:03d}  {row['slug']:<{width}}  {row['stage']:<8}  {row['arxiv']:<10}  {row['status']}")
    return 0


def _plan(system: System, file: Path, size: str) -> Plan:
    """What one recipe of a system asks for; of all of them before the first one runs, so that a mistake in the last costs no hours."""
    from paredown.core import plan as plans
    from paredown.core import recipe as recipes
    from paredown.core.errors import UserError

    recipe = recipes.load(file, size="" if size == SMALL else size)
    if recipe.paper is None or recipe.paper.system != system.number:
        raise UserError(f"the recipe does not say that it proves system {system.number}", where=str(file), todo=f"system: {system.number}")
    return plans.make(recipe)


def _prove(system: System, plans: list[Plan], size: str, workspace: Any, how: Any, folder: Path) -> dict[str, Any] | None:
    """Run the recipes of one system and write its evidence; None where it was interrupted."""
    from paredown.cli import running, screen
    from paredown.cli.compare import answer
    from paredown.core.compare import counted
    from paredown.report import evidence

    runs = []
    for plan in plans:
        found = running.execute(plan, workspace, how)
        if found["status"] != "done":
            return None
        runs.append(evidence.Run(plan, found))
        if not how.as_json:
            print("\n".join(["", *answer(found)]))
    row = evidence.write(system, runs, size, folder)
    if not how.as_json:
        took = screen.seconds(row["seconds"])
        print(f"{system.number:03d} {system.slug}  {counted(row['verdicts'])}; {took}, {row['trainings']} trainings; {row['file']}")
    return row
