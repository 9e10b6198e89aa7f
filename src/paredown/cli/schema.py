"""`paredown schema`: JSON Schema of recipes, for editors that complete and check while one types."""

from __future__ import annotations

from typing import Annotated

import typer

from paredown.cli.options import DebugOption, JsonOption

HELP = """Print the JSON Schema of recipes, or of one strategy.

Example: paredown schema > recipe.schema.json
"""


def schema(
    name: Annotated[str, typer.Argument(help="One strategy; without it the whole recipe.")] = "",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    import json

    from paredown.core import schemas

    print(json.dumps(schemas.strategy(name) if name else schemas.recipe(), indent=2, ensure_ascii=False))
