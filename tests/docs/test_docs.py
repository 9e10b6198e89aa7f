"""Every block of code in the documentation holds: recipes plan, commands exist, examples run, what is shown is what is printed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import LANGUAGES, PAGES, ROOT, Block, blocks, headings, links, spans  # type: ignore[import-not-found]
from typer._click.exceptions import MissingParameter

from paredown.cli.main import app
from paredown.core import catalog, plan
from paredown.core import recipe as recipes
from paredown.core.recipe import Recipe
from paredown.core.yaml import parse
from paredown.engines.answer_store import STORE

Program = Callable[..., "subprocess.CompletedProcess[str]"]
TUTORIAL = "docs/add-a-strategy.md"
MADE_THERE = ("corpus.clean.short", "learn.schedules.constant", "mine.short")  # by the reader of the tutorial
MAKEFILE = (ROOT / "Makefile").read_text()
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


# --- every block is of a kind that is tested below


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_a_block_is_of_a_tested_kind(block: Block) -> None:
    assert block.language in LANGUAGES, f"{block}: a block of {block.language or 'no language'!r} that no test would look at"


def test_what_is_shown_as_plain_text_is_tested_by_name() -> None:
    assert [b.page for b in blocks("text")] == ["docs/architecture.md", "docs/recipes.md"], "give a new block of text a test below"
    assert [b.page for b in blocks("yaml mistakes")] == ["docs/recipes.md"]
    assert {b.page for b in blocks("python")} | {b.page for b in blocks("toml")} == {TUTORIAL}


# --- recipes


def whole(block: Block) -> dict[str, Any]:
    """The recipe that a block stands for: the first of its page as it is, each other one as a change of the first."""
    mine = parse(block.text, str(block)).plain()
    first = next(b for b in blocks("yaml") if b.page == block.page)
    if block == first:
        return dict(mine)
    base = parse(first.text, str(first)).plain()
    return {**base, **mine, "steps": {**base["steps"], **mine.get("steps", {})}}


def checked(block: Block, settings: tuple[str, ...] = ()) -> Recipe:
    return recipes.loads(json.dumps(whole(block)), str(block), settings)


@pytest.mark.parametrize("block", [b for b in blocks("yaml") if b.page != TUTORIAL], ids=str)
def test_a_recipe_plans(block: Block) -> None:
    assert plan.make(checked(block)).tasks


def test_the_examples_do_what_the_text_says() -> None:
    """What docs/recipes.md says beside its examples."""
    found: dict[str, Block] = {}
    heading = ""
    lines = (ROOT / "docs" / "recipes.md").read_text().splitlines()
    for block in (b for b in blocks("yaml") if b.page == "docs/recipes.md"):
        heading = next(line for line in reversed(lines[: block.line]) if line.startswith("#")).lstrip("# ")
        found[heading] = block
    arms = plan.make(checked(found["Arms"]))
    names = [(task.name, tuple(task.arms)) for task in arms.tasks.values()]
    everyone = ("dense", "control", "sparsegpt", "gentle")
    assert [name for name, of in names if of == everyone] == ["library", "code", "split", "tokens", "dense"]
    assert ("dense", 0, "smaller") in arms.skipped
    assert [of for name, of in names if name == "smaller"] == [("control",), ("sparsegpt",), ("gentle",)]
    seeds = plan.make(checked(found["Seeds"]))
    assert [task.seed for task in seeds.tasks.values() if task.name == "dense"] == [0, 1, 2]
    assert [task.name for task in seeds.tasks.values()].count("library") == 1
    assert [str(claim) for claim in checked(found["Claims and verdicts"]).claims] == [
        "quality.bits_per_byte: sparsegpt beats control",
        "quality.bits_per_byte: gentle beats control by 0.1",
        "quality.bits_per_byte: sparsegpt is not worse than gentle within 0.05",
    ]
    assert list(checked(found["Summary"]).summary) == ["bits per byte", "perplexity"]
    healed = checked(found["Parts"]).arms[""]["healed"].strategy
    assert healed is not None
    assert [type(hook).__name__ for hook in healed.hooks] == ["KeepZeros"]  # type: ignore[attr-defined]
    overridden = checked(found["Arms"], ("smaller.sparsity=0.9",)).arms
    shares = {arm: steps["smaller"].strategy.knobs()["sparsity"] for arm, steps in overridden.items() if steps["smaller"].strategy}
    assert shares == {"dense": 0.9, "control": 0.9, "sparsegpt": 0.9, "gentle": 0.5}, "--set comes before the arms"
    dotted = [t.replace(": ", "=") for page, t in spans() if page == "docs/recipes.md" and re.fullmatch(r"dense(\.\w+)+: [\de]+", t)]
    assert dotted == ["dense.model.layers=3", "dense.budget.tokens=2e5"]
    dense = checked(found["Arms"], tuple(dotted)).arms["control"]["dense"]
    assert dense.inputs["model"].layers == 3  # type: ignore[union-attr]
    assert dense.strategy.budget.tokens == 2e5  # type: ignore[union-attr]
    before, after = (set(plan.make(checked(found["Recipes"], s)).tasks) for s in ((), ("quality.max_tokens=100",)))
    assert len(before - after) == 1, "only what depends on a changed knob has another hash"
    text = found["Recipes"].text.replace("  code:", "  sources:").replace("$code", "$sources").replace("name: small", "# other\nname: more")
    assert text.count("sources") == 2
    assert set(plan.make(recipes.loads(text)).tasks) == before, "names and comments change nothing"


# --- commands


def commands() -> list[tuple[str, str]]:
    found = [(str(b), line) for b in blocks("sh") for line in b.text.splitlines() if line.strip()]
    programs = re.compile(r"(\.venv/bin/)?(paredown|make|pip|python|source) ")
    return found + [(page, text) for page, text in spans() if programs.match(text)]


@pytest.mark.parametrize(("where", "line"), commands())
def test_a_command_exists_with_its_options(where: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    name = Path(words[0]).name
    assert words[0] in (name, f".venv/bin/{name}"), f"{where}: {line}"
    known = {"paredown": _paredown, "make": _make, "python": _python, "pip": _pip, "source": _source}
    assert name in known, f"{where}: {name} is no program that a test knows"
    known[name](words[1:], in_text=":" not in where)


def _paredown(words: list[str], in_text: bool) -> None:
    verbs: Any = typer.main.get_command(app)
    verb = verbs.commands[words[0]]
    try:
        context = verb.make_context(words[0], words[1:])
    except MissingParameter:
        assert in_text, "a block says the whole command"
        return
    given = context.params
    if words[0] in ("list", "show", "schema"):
        name = given.get("family") or given.get("name") or ""
        if name and name.islower() and name not in MADE_THERE:
            assert any(known == name or known.startswith(f"{name}.") for known in catalog.paths()), name
    file = given.get("recipe")
    if file is not None and str(file).startswith("recipes/"):
        recipes.load(ROOT / file, given["settings"] or [])


def _make(words: list[str], in_text: bool) -> None:
    for word in words:
        variable, sign, _ = word.partition("=")
        assert f"$({variable})" in MAKEFILE if sign else re.search(rf"^{re.escape(word)}:", MAKEFILE, re.MULTILINE), word


def _python(words: list[str], in_text: bool) -> None:
    if words[0] == "-m":
        assert words[1] == "pytest"
        words = words[2:]
        if "-k" in words:
            del words[words.index("-k") : words.index("-k") + 2]
    elif words[0].startswith("benchmarks/"):
        program = (ROOT / words[0]).read_text()
        for option in words[1:]:
            assert not option.startswith("--") or f'"{option}"' in program, option
        words = words[:1]
    for word in words:
        assert (ROOT / word).exists(), word


def _pip(words: list[str], in_text: bool) -> None:
    assert words[0] == "install"
    extra = re.fullmatch(r"paredown\[(\w+)\]", words[1])
    assert extra, words
    assert extra[1] in EXTRAS, words


def _source(words: list[str], in_text: bool) -> None:
    assert words == [".venv/bin/activate"]


# --- names within the text


def test_options_strategies_and_files_that_the_text_names_exist() -> None:
    verbs: Any = typer.main.get_command(app)
    options = {option for verb in verbs.commands.values() for param in verb.params for option in param.opts} | {"--help"}
    stages = "|".join(catalog.STAGES)
    wrong = []
    for page, text in spans():
        if text.startswith("--"):
            if text.split(" ")[0].partition("=")[0] not in options:
                wrong.append(f"{page}: {text} is no option")
        elif re.fullmatch(rf"({stages})(\.\w+)*\.[\w*]+", text) and text not in MADE_THERE:
            stem = text.removesuffix(".*")
            if not any(name == text or (stem != text and name.startswith(f"{stem}.")) for name in catalog.paths()):
                wrong.append(f"{page}: {text} is no strategy")
        elif page != TUTORIAL and re.fullmatch(r"[\w.-]+(/[\w.-]+)+\.(py|md|txt)", text):
            wrong += [f"{page}: {text} is no file"] * (not any((folder / text).exists() for folder in (ROOT, ROOT / "src" / "paredown")))
    assert not wrong


@pytest.mark.parametrize(("page", "target"), [(p, t) for p, t in links() if "://" not in t])
def test_a_link_points_at_what_exists(page: str, target: str) -> None:
    name, _, anchor = target.partition("#")
    path = (ROOT / page).parent / name if name else ROOT / page
    assert path.exists(), f"{page} links to {target}"
    if anchor:
        assert anchor in headings(path)


def test_every_page_can_be_reached_from_the_first() -> None:
    reached, queue = set(), [ROOT / "README.md"]
    while queue:
        page = queue.pop().resolve()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            queue += [page.parent / target.partition("#")[0] for p, target in links() if ROOT / p == page and "://" not in target]
    written_by_prove = (ROOT / "docs" / "evidence").resolve()
    assert {p.resolve() for p in PAGES} == {p for p in reached if p.exists() and p.parent != written_by_prove}
    assert written_by_prove / "README.md" in reached


# --- what is shown is what is printed


def test_the_sample_of_mistakes_is_what_the_program_prints(within: Program) -> None:
    (recipe,), (shown,) = blocks("yaml mistakes"), [b for b in blocks("text") if b.page == "docs/recipes.md"]
    Path("mine.yaml").write_text(recipe.text)
    done = within("run", "mine.yaml")
    assert done.returncode == 2
    assert done.stderr.strip() == shown.text.strip()


def test_the_workspace_looks_as_drawn(paredown: Program, tmp_path: Path) -> None:
    (shown,) = [b for b in blocks("text") if b.page == "docs/architecture.md"]
    drawn = [line.split("  ")[0] for line in shown.text.splitlines()]
    assert drawn == ["steps/<strategy>-<key>/", "work/<key>/out", "work/<key>/scratch", "locks/", STORE, "ledger.sqlite", "reports/"]
    (tmp_path / "toy.yaml").write_text("steps:\n  numbers: {use: toy.numbers}\n  twice: {use: toy.double, corpus: $numbers}\n")
    assert paredown("run", "toy.yaml").returncode == 0
    (tmp_path / "bad.yaml").write_text("steps:\n  numbers: {use: toy.numbers}\n  fail: {use: toy.fail, corpus: $numbers}\n")
    assert paredown("run", "bad.yaml").returncode == 1
    there = tmp_path / ".paredown"
    (step,) = there.glob("steps/toy.double-*")
    assert {p.name for p in step.iterdir()} == {"step.json", "corpus"}
    assert (step / "corpus" / "artifact.json").exists()
    (work,) = there.glob("work/*")
    assert {"out", "scratch"} <= {p.name for p in work.iterdir()}
    assert (there / "locks").is_dir()
    assert (there / "ledger.sqlite").is_file()
    assert {p.name for p in (there / "reports").iterdir()} == {"toy.json", "toy.html"}


# --- the tutorial, followed to the letter


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package that the tutorial's last section describes, installed as pip would have it."""
    folder = tmp_path_factory.mktemp("tutorial")
    (points,) = tomllib.loads(blocks("toml")[0].text)["project"]["entry-points"].items()
    ((prefix, module),) = points[1].items()
    (folder / module).mkdir()
    (folder / module / "__init__.py").touch()
    strategy, test, part = (b.text for b in blocks("python"))
    (folder / module / "short.py").write_text(strategy)
    (folder / module / "constant.py").write_text(part)
    (folder / "test_short.py").write_text(test.replace("paredown.corpus.clean.short", f"{module}.short"))
    information = folder / f"{module}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{points[0]}]\n{prefix} = {module}\n")
    return folder


@pytest.fixture
def joined(package: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(package), os.environ["PYTHONPATH"]])}


def test_the_tutorials_strategy_runs_by_its_name(paredown: Program, tmp_path: Path, joined: dict[str, str]) -> None:
    (recipe,) = [b for b in blocks("yaml") if b.page == TUTORIAL]
    (tmp_path / "short.yaml").write_text(recipe.text.replace("corpus.clean.short", "mine.short"))
    done = paredown("run", "short.yaml", "--json", "--no-report", env=joined)
    assert done.returncode == 0, done.stdout + done.stderr
    last = json.loads(done.stdout)["steps"][-1]
    assert last["strategy"] == "mine.short"
    documents, size, _ = last["dropped"]["too_short"]
    assert 0 < documents < 40
    assert size < 5000 * 4 * documents
    shown = json.loads(paredown("show", "mine.short", "--json", env=joined).stdout)
    assert all(shown[key] for key in ("summary", "source", "costs", "control", "tags"))
    assert all(knob["meaning"] for knob in shown["knobs"])


def test_the_tutorials_part_fits_its_field(paredown: Program, tmp_path: Path, joined: dict[str, str]) -> None:
    text = next(b.text for b in blocks("yaml") if b.page == "docs/recipes.md")
    (tmp_path / "constant.yaml").write_text(text.replace("budget: {tokens: 1e5}", "budget: {tokens: 1e5}\n    schedule: mine.constant"))
    done = paredown("run", "constant.yaml", "--dry-run", env=joined)
    assert done.returncode == 0, done.stderr


def test_the_tutorials_tests_pass(package: Path, joined: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_short.py"]
    done = subprocess.run(command, cwd=package, env={**os.environ, **joined}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_in_the_documentation_is_as_clean_as_the_sources(block: Block) -> None:
    for command in (["check"], ["format", "--check"]):
        words = [sys.executable, "-m", "ruff", *command, "--no-cache", "--stdin-filename", "tests/docs/block.py", "-"]
        text = block.text.replace("corpus.clean.short", "corpus.clean.gopher")  # ruff sorts by which modules there are
        done = subprocess.run(words, input=text, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
