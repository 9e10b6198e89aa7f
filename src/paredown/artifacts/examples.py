"""Supervised rows of any modality."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from paredown.core.artifact import Artifact

if TYPE_CHECKING:
    import polars


class Examples(Artifact):
    """Rows in `examples.parquet`, columns by agreement between producer and consumer (text pairs, images, tables)."""

    kind = "Examples"

    def frame(self) -> polars.DataFrame:
        import polars

        return polars.read_parquet(self.file("examples.parquet"))

    def summary(self) -> str:
        import polars

        return f"{polars.scan_parquet(self.file('examples.parquet')).select(polars.len()).collect().item():,} examples"

    @classmethod
    def write(cls, path: Path, frame: polars.DataFrame) -> Examples:
        path.mkdir(parents=True, exist_ok=True)
        frame.rechunk().write_parquet(path / "examples.parquet", compression="zstd")
        return cls(path)
