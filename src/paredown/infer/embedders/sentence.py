"""Vectors by any model of sentence-transformers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from paredown.core.errors import UserError
from paredown.core.strategy import Count
from paredown.engines.parts import Embedder

if TYPE_CHECKING:
    import numpy

    from paredown.engines.embedder import Embedding


class Sentence(Embedder):
    """Embed texts with a sentence-transformers model, from a folder or by its name on the hub.

    Source: Reimers and Gurevych 2019, arXiv 1908.10084, section 3.
    Costs: one forward pass over each text, once: vectors are kept by content.
    Control: infer.embedders.tfidf
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (89,)
    extras: ClassVar[tuple[str, ...]] = ("search",)

    model: str  # a folder that the library saved, or a name on the hub
    batch: Count = 32  # texts a forward pass

    def open(self, fitted_on: Sequence[str]) -> Embedding:
        return _Loaded(self.model, self.batch)


class _Loaded:
    def __init__(self, name: str, batch: int) -> None:
        from sentence_transformers import SentenceTransformer

        folder = Path(name)
        try:
            self.model: Any = SentenceTransformer(name, trust_remote_code=False, local_files_only=folder.exists())
        except (OSError, ValueError) as error:
            raise UserError(
                f"no model for sentences could be loaded from {name}: {error}", where="infer.embedders.sentence.model"
            ) from None
        self.batch = batch
        files = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []
        digest = hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in files)).hexdigest()
        self.identity = f"sentence-transformers {digest if files else name}"

    def embed(self, texts: Sequence[str]) -> numpy.ndarray[Any, Any]:
        found: numpy.ndarray[Any, Any] = self.model.encode(list(texts), batch_size=self.batch, show_progress_bar=False)
        return found

    def close(self) -> None: ...
