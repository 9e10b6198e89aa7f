"""The folder is the registry: `prune.wanda` is the class `Wanda` in `paredown/prune/wanda.py`.

Listing parses files and imports none of them; loading imports one. Other packages join through the entry point group
`paredown.strategies`: the entry point's name becomes the first part of the strategy's name and its value names a package.
A file that does not parse breaks only its own name, and is listed as broken.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import gc
import importlib
import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paredown.core.errors import MissingExtra, PareError, UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paredown.core.strategy import Configured

STAGES = ("corpus", "learn", "prune", "tune", "infer", "measure")
GROUP = "paredown.strategies"
PACKAGE = Path(__file__).parents[1]
_IMPORT = re.compile(
    r"(?:^|[;:])[ \t]*(?:from[ \t]+(\.*[\w.]*)[ \t]*import\b[ \t]*(\([^)]*\)|[^\n;#(]*)|import[ \t]+([^\n;#]+))", re.MULTILINE
)
_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+.*\n|[ \t]*\n)+", re.MULTILINE)
_COMMENT = re.compile(r"#[^\n]*")
_SECTION = re.compile(r"^(Source|Costs|Control|Not for):\s*", re.MULTILINE)


@dataclass(frozen=True)
class Knob:
    name: str
    annotation: str
    default: str | None  # source text; None where a value must be given
    comment: str


@dataclass(frozen=True)
class Entry:
    """What can be said of a strategy without importing it."""

    name: str
    path: Path
    class_name: str = ""
    kind: str = ""  # "step", or the kind of part: "Objective", "Hook", ...
    summary: str = ""
    source: str = ""
    costs: str = ""
    control: str = ""
    not_for: str = ""
    tags: tuple[str, ...] = ()
    systems: tuple[int, ...] = ()
    extras: tuple[str, ...] = ()
    seeded: bool = False
    metrics: tuple[str, ...] = ()
    knobs: tuple[Knob, ...] = ()
    inputs: tuple[tuple[str, str, bool], ...] = ()  # name, annotation, required
    result: str = ""
    broken: str = ""
    module: str = field(default="", compare=False)


def _roots() -> list[tuple[str, Path, str]]:
    """(prefix of names, folder, module) of every place that holds strategies."""
    roots = [(stage, PACKAGE / stage, f"paredown.{stage}") for stage in STAGES]
    for point in importlib.metadata.entry_points(group=GROUP):
        found = importlib.util.find_spec(point.value)
        for folder in (found.submodule_search_locations or []) if found else []:
            roots.append((point.name, Path(folder), point.value))
    return roots


def shipped(name: str, beside: str = "") -> Path:
    """A folder of files that come along: in the package where it is installed, in a checkout under `beside`, or its own name."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parents[1] / (beside or name)


@functools.cache
def paths() -> dict[str, tuple[Path, str]]:
    """Name to (file, module) of everything in the catalog, sorted by name; reads folders only."""
    found = {}
    for prefix, folder, module in _roots():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            if any(part.startswith(("_", ".")) for part in parts):
                continue
            found[".".join((prefix, *parts))] = (path, ".".join((module, *parts)))
    return dict(sorted(found.items()))


def name_of(module: str) -> str:
    """The name under which a module of another package is in the catalog; the module itself where it is not."""
    return next((name for name, (_, known) in paths().items() if known == module), module)


@functools.cache
def entry(name: str) -> Entry:
    """The card of one strategy, from its source text."""
    path, module = paths()[name]
    with _uncollected():
        return _read(name, path, module)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without looking for cycles, of which a syntax tree has none: that took a third of the time to read one."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(name: str, path: Path, module: str) -> Entry:
    try:
        source = path.read_bytes()
        tree = ast.parse(source)
    except (SyntaxError, ValueError, OSError) as error:
        return Entry(name, path, broken=f"does not parse: {error}", module=module)
    wanted = path.stem.replace("_", "")
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name.lower() == wanted:
            return _card(name, path, module, node, source, _constants(tree))
    return Entry(name, path, broken=f"holds no class named like the file ({path.stem})", module=module)


def entries() -> list[Entry]:
    return [entry(name) for name in paths()]


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """What a module calls by a name of its own, such as the text of a default."""
    return {item.targets[0].id: item.value for item in tree.body if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name)}


def _card(name: str, path: Path, module: str, node: ast.ClassDef, source: bytes, named: dict[str, ast.expr]) -> Entry:
    doc = ast.get_docstring(node) or ""
    pieces = _SECTION.split(doc)
    sections = {key: " ".join(text.split()) for key, text in zip(pieces[1::2], pieces[2::2], strict=True)}
    bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
    lines = source.split(b"\n")
    knobs, constants = [], {}
    inputs: list[tuple[str, str, bool]] = []
    result = ""
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            annotation = ast.unparse(item.annotation)
            if annotation.startswith("ClassVar"):
                constants[item.target.id] = _literal(item.value)
                continue
            value = named.get(item.value.id, item.value) if isinstance(item.value, ast.Name) else item.value
            default = ast.unparse(value) if value is not None else None
            comment = _comment(lines[(item.end_lineno or 1) - 1][item.end_col_offset or 0 :]) or _comment_above(item.lineno, lines)
            knobs.append(Knob(item.target.id, annotation, default, comment))
        elif isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
            constants[item.targets[0].id] = _literal(item.value)
        elif isinstance(item, ast.FunctionDef) and item.name == "__call__":
            arguments = item.args.args[1:] + item.args.kwonlyargs
            defaults = [None] * (len(item.args.args) - 1 - len(item.args.defaults)) + list(item.args.defaults) + list(item.args.kw_defaults)
            for argument, given in zip(arguments, defaults, strict=True):
                inputs.append((argument.arg, ast.unparse(argument.annotation) if argument.annotation else "", given is None))
            result = ast.unparse(item.returns) if item.returns else ""
    return Entry(
        name=name,
        path=path,
        class_name=node.name,
        kind="step" if "Strategy" in bases else next((b for b in bases if b not in ("Strategy", "object")), ""),
        summary=doc.partition("\n")[0].strip(),
        source=sections.get("Source", ""),
        costs=sections.get("Costs", ""),
        control=sections.get("Control", "").rstrip("."),
        not_for=sections.get("Not for", ""),
        tags=tuple(constants.get("tags") or ()),
        systems=tuple(constants.get("systems") or ()),
        extras=tuple(constants.get("extras") or ()),
        seeded=bool(constants.get("seeded")),
        metrics=tuple(constants.get("metrics") or ()),
        knobs=tuple(knobs),
        inputs=tuple(inputs),
        result=result,
        module=module,
    )


def _literal(node: ast.expr | None) -> Any:
    try:
        return ast.literal_eval(node) if node is not None else None
    except ValueError:
        return None


def _comment(rest: bytes) -> str:
    """The comment behind or instead of code on a line; empty where there is none."""
    text = rest.decode(errors="replace").strip()
    return text.lstrip("# ").strip() if text.startswith("#") else ""


def _comment_above(line: int, lines: list[bytes]) -> str:
    block: list[str] = []
    while line > 1 and (found := _comment(lines[line - 2])):
        block.insert(0, found)
        line -= 1
    return " ".join(block)


def find(name: str) -> Entry:
    """The card of `name`.

    Raises:
        UserError: there is no such strategy (the nearest name is given), or its file is broken.
    """
    if name not in paths():
        close = nearest(name, paths())
        family = name.partition(".")[0]
        hint = f"did you mean {close[0]}?  " if close else ""
        raise UserError(f"no strategy {name}", todo=f"{hint}(paredown list{' ' + family if family in STAGES else ''})")
    found = entry(name)
    if found.broken:
        raise UserError(f"{name} is broken: {found.broken}", where=str(found.path))
    return found


def load(name: str) -> type[Configured]:
    """Import one strategy's class."""
    from paredown.core.strategy import Configured

    found = find(name)
    try:
        loaded = getattr(importlib.import_module(found.module), found.class_name)
    except ModuleNotFoundError as error:
        if found.extras and error.name and not error.name.startswith("paredown"):
            raise MissingExtra(found.extras[0], name, error.name) from None
        raise UserError(f"{name} cannot be imported: {error}", where=str(found.path)) from error
    except PareError:
        raise
    except Exception as error:
        raise UserError(f"{name} cannot be imported: {type(error).__name__}: {error}", where=str(found.path)) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Configured)):
        raise UserError(f"{name}: {found.class_name} is neither a Strategy nor a Part", where=str(found.path))
    return loaded


def build(spec: str | dict[str, Any]) -> Any:
    """An instance from a name or `{use: name, knob: value, ...}`; nested parts are built too. Its class depends on the name."""
    if isinstance(spec, str):
        spec = {"use": spec}
    values = dict(spec)
    kind = load(values.pop("use"))
    return kind(**{key: _with_parts(value) for key, value in values.items()})


def _with_parts(value: Any) -> Any:
    """A knob's plain value with the parts in it built."""
    if isinstance(value, dict) and "use" in value:
        return build(value)
    return [_with_parts(item) for item in value] if isinstance(value, (list, tuple)) else value


@functools.cache
def libraries(extra: str) -> tuple[str, ...]:
    """What belongs to one of paredown's extras; nothing where the package is not installed, so that nothing tells."""
    try:
        wanted = importlib.metadata.requires("paredown") or []
    except importlib.metadata.PackageNotFoundError:
        return ()
    mark = re.compile(rf"""extra == ["']{re.escape(extra)}["']""")
    return tuple(found[0] for requirement in wanted if mark.search(requirement) and (found := re.match(r"[\w.-]+", requirement)))


@functools.cache
def version(library: str) -> str | None:
    """The installed version; None where it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def lacking(extra: str) -> str | None:
    """The first library of one of paredown's extras that is not installed; None where all are."""
    return next((library for library in libraries(extra) if version(library) is None), None)


@functools.cache
def _imports(path: Path, module: str) -> tuple[str, ...]:
    """Modules that a file names in import statements anywhere, also inside functions, but not for its annotations alone
    (`if TYPE_CHECKING:`): `engines/parts.py` names most engines so, and a change in one would make every step anew.

    Found in the text, because syntax trees of all files took half of the time to plan. What only looks like an import, in
    a string perhaps, is found too: at worst a key changes once too often.
    """
    found: set[str] = set()
    is_package = path.name == "__init__.py"
    text = _TYPES.sub("", path.read_text(encoding="utf-8", errors="replace")).replace("\\\n", " ")
    for base, names, modules in _IMPORT.findall(text):
        if modules:
            found.update(name.split()[0] for name in modules.split(",") if name.strip())
            continue
        if base.startswith("."):
            inner = base.lstrip(".")
            stem = module.split(".")
            stem = stem[: len(stem) - (len(base) - len(inner)) + is_package]
            base = ".".join([*stem, inner] if inner else stem)
        found.add(base)
        found.update(f"{base}.{name.split()[0]}" for name in _COMMENT.sub("", names).strip("()").split(",") if name.strip())
    return tuple(sorted(found))


@functools.cache
def _module_path(module: str) -> Path | None:
    top, *rest = module.split(".")
    if top == "paredown":
        base = PACKAGE
    else:
        found = importlib.util.find_spec(top)
        if found is None or not found.submodule_search_locations:
            return None
        base = Path(found.submodule_search_locations[0])
    path = base.joinpath(*rest)
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.cache
def source_hash(name: str) -> str:
    """Hash of the strategy's file and of every package source that it imports, followed to the end.

    `paredown.core` and `paredown.cli` are left out: they decide when a step runs and how it is shown, never what it
    computes. What they do fix (seed derivation, the artifact layout) is versioned by `workspace.FORMAT`.
    """
    import hashlib  # takes as long to import as four files to read

    _, start = paths()[name]
    own = start.partition(".")[0]
    seen: dict[str, Path] = {}
    queue = [start]
    while queue:
        module = queue.pop()
        path = _module_path(module)
        if module in seen or path is None:
            continue
        seen[module] = path
        for imported in _imports(path, module):
            if imported.partition(".")[0] in ("paredown", own) and not imported.startswith(("paredown.core", "paredown.cli")):
                queue.append(imported)
    digest = hashlib.sha256()
    for module in sorted(seen):
        digest.update(module.encode() + b"\0" + hashlib.sha256(seen[module].read_bytes()).digest())
    return digest.hexdigest()
