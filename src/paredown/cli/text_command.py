"""Commands whose values are taken as they were typed, so that they answer at once.

typer 0.29 converts values with pydantic, also those that are text anyway and the flag --help that was not given; importing
it takes as long as all the rest of `paredown list`. What these classes hook into, older versions of typer do not look at: there
values are converted as ever.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


class _Light:
    """For classes of commands: the flag --help, and values of the types text and list of text, are not converted."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        for parameter in getattr(self, "params", ()):
            _spare(parameter, str, list[str])

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        _spare(option, bool)
        return option


class TextCommand(_Light, TyperCommand):
    """For verbs that need no pydantic themselves."""


class Verbs(_Light, TyperGroup):
    """The program, whose own values are flags."""


def _spare(parameter: Any, *kinds: Any) -> None:
    if getattr(getattr(parameter, "type_descriptor", None), "annotation", None) in kinds:
        parameter.get_runtime_param = _AsTyped


class _AsTyped:
    """Stands where typer has the converter of a parameter."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        return () if value is None and (param.multiple or param.nargs == -1) else value
