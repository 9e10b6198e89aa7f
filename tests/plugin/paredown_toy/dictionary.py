from __future__ import annotations

from typing import ClassVar

from paredown.artifacts.corpus import Corpus
from paredown.core.strategy import Part


class Dictionary(Part):
    """A part that takes an artifact."""

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data")

    words: Corpus  # documents whose texts are known
    more: Corpus | None = None  # further ones
