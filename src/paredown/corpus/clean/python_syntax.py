"""Keep what parses as Python."""

from __future__ import annotations

import ast
import warnings
from typing import TYPE_CHECKING, ClassVar

from paredown.artifacts.corpus import Corpus, Filtered
from paredown.core.strategy import Strategy

if TYPE_CHECKING:
    import polars


def fault(text: str) -> str | None:
    """Why a text is no Python source; None where it parses."""
    if "\0" in text:
        return "nul_characters"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes are warnings of the source, not faults
            ast.parse(text)
    except (SyntaxError, ValueError):
        return "does_not_parse"
    except (RecursionError, MemoryError):
        return "nested_too_deep"
    return None


def judge(frame: polars.DataFrame) -> polars.Series:
    """The fault of each document, null where there is none."""
    import polars as pl

    return pl.Series([fault(text) for text in frame["text"]], dtype=pl.String)


class PythonSyntax(Strategy):
    """Keep documents that parse as Python source.

    Source: none (ours); the interpreter's own parser decides, so the result depends on its version.
    Costs: parsing, some 3 MB a second and core.
    Control: none (compare with the step skipped).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-universal")

    keep_rejected: bool = False  # keep what is rejected, with the reason, as the part `rejected`

    def external(self) -> list[int]:
        """The grammar's version."""
        import sys

        return list(sys.version_info[:3])

    def __call__(self, corpus: Corpus) -> Filtered:
        from paredown.engines.documents import filter_documents

        return filter_documents(corpus, judge, keep_rejected=self.keep_rejected)
