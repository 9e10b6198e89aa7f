"""Small tables, as examples, that several tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from paredown.artifacts.examples import Examples
from paredown.artifacts.tables import Column, Table, write_table
from paredown.core.context import Context, running
from paredown.corpus.mix.tables import Tables
from paredown.engines import words
from paredown.engines.modules import initialized
from paredown.learn.models.transtab import Transtab

SMALL: dict[str, Any] = {"hidden_size": 16, "layers": 2, "heads": 2, "intermediate_size": 24}
COLORS = ("red", "dark blue", "green")


def mixed(folder: Path, rows: int = 12, seed: int = 0, name: str = "mixed") -> Examples:
    """Two numbers, a category and two flags; some cells are missing, and one row has no flag set."""
    draw = np.random.default_rng(seed)
    cells = pl.DataFrame(
        {
            "body age": [None if n % 5 == 4 else float(v) for n, v in enumerate(draw.normal(50, 9, rows))],
            "pulse": draw.normal(70, 8, rows),
            "eye color": [None if n % 7 == 6 else COLORS[n % 3] for n in range(rows)],
            "smokes": [None if n % 6 == 5 else bool(v) for n, v in enumerate(draw.integers(0, 2, rows))],
            "works at night": draw.integers(0, 2, rows) == 1,
        }
    )
    columns = (
        Column("body age", "num", 20, 60), Column("pulse", "num", 40, 60), Column("eye color", "cat"), Column("smokes", "bin"),
        Column("works at night", "bin"),
    )  # fmt: skip
    return write_table(folder, cells, pl.Series(np.arange(rows) % 2), (Table(name, columns, ("no", "yes")),))


def numbers(
    folder: Path, names: tuple[str, ...] = ("a one", "b two", "c three"), rows: int = 10, seed: int = 0, label: Any = None
) -> Examples:
    """A table of standard normal numbers."""
    draw = np.random.default_rng(seed)
    cells = pl.DataFrame({name: draw.standard_normal(rows) for name in names})
    labels = pl.Series(np.arange(rows) % 2 if label is None else label)
    return write_table(folder, cells, labels, (Table("numbers", tuple(Column(name, "num") for name in names), ("no", "yes")),))


def worded(folder: Path, *tables: Examples, pieces: bool = False) -> list[Examples]:
    """The tables, read with words learnt from all of them."""
    text = words.learn(tables, 10_000, pieces)
    return [words.worded(table, text, folder / str(number)) for number, table in enumerate(tables)]


def together(folder: Path, *tables: Examples) -> Examples:
    with running(Context(folder / "out", folder / "scratch")):
        return Tables()(tuple(tables))


def network(examples: Examples, seed: int = 0, **knobs: Any) -> Any:
    """A network for these tables in evaluation mode, its weights larger than they start, so that all of them matter."""
    import torch

    module = initialized(Transtab(**{**SMALL, **knobs}), examples, seed)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(value.numel())))
    return module.eval()
