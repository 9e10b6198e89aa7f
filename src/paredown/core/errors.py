"""One small tree of errors. Every message says what happened, where, what was kept and what to do next."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

ONE_SCREEN = 22  # lines


class PareError(Exception):
    """Base of every error that paredown raises on purpose. The command line prints it without a traceback."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", kept: str = "", todo: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.kept = kept
        self.todo = todo

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"  {label:<6} {text}" for label, text in (("where", self.where), ("kept", self.kept), ("do", self.todo)) if text]
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:  # keeps the fields when it crosses a process border
        return _rebuild, (type(self), self.what, self.where, self.kept, self.todo)


def _rebuild(kind: type[PareError], what: str, where: str, kept: str, todo: str) -> PareError:
    error = kind.__new__(kind)
    PareError.__init__(error, what, where=where, kept=kept, todo=todo)
    return error


class UserError(PareError):
    """What was asked for cannot be done as asked: a wrong name, value, type or combination."""

    exit_code = 2


class DataError(PareError):
    """Input or stored data is not what it should be: unreadable, empty, damaged, not finite."""


class MachineError(PareError):
    """The machine lacks something: disk, memory, a library, a device."""


class MissingExtra(MachineError):
    """A strategy needs a library that is not installed."""

    def __init__(self, extra: str, needed_by: str, module: str) -> None:
        super().__init__(
            f"{needed_by} needs the Python package {module!r}, which is not installed",
            todo=f'pip install "paredown[{extra}]"',
        )


@dataclass(frozen=True)
class Mistake:
    """One mistake of a recipe with its place (line and column count from 1)."""

    line: int
    column: int
    what: str
    hint: str = ""
    file: str = ""  # other than the recipe's own, such as a --set option


class RecipeError(UserError):
    """All mistakes of one recipe, reported together; nothing has run."""

    def __init__(self, file: str, mistakes: Iterable[Mistake]) -> None:
        self.file = file
        self.mistakes = sorted(mistakes, key=lambda m: (m.line, m.column, m.what))
        count = len(self.mistakes)
        super().__init__(f"{count} mistake{'s' * (count != 1)} in {file}; nothing was run")

    def __str__(self) -> str:
        lines = [self.what, ""]
        for number, mistake in enumerate(self.mistakes):
            place = mistake.file or f"{self.file}:{mistake.line}:{mistake.column}"
            said = [f"  {place}  {mistake.what}"]
            said += textwrap.wrap(mistake.hint, 100, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False)
            if number and len(lines) + len(said) > ONE_SCREEN:
                return "\n".join([*lines, f"  and {len(self.mistakes) - number} more; --json gives them all"])
            lines += said
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return RecipeError, (self.file, self.mistakes)


def nearest(name: str, choices: Iterable[str], *, count: int = 1) -> list[str]:
    """The names in `choices` that look most like `name`, best first; none where nothing is close."""
    return difflib.get_close_matches(name, list(choices), n=count, cutoff=0.6)
