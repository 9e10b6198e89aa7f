"""Texts as vectors: whatever embeds them, each text once.

What costs something, a model or a server, is kept in the store of answers under the hash of the text and of what embeds it, so
that nothing is paid twice and a killed run goes on where it was.

    with opened(embedder, fitted_on=texts) as embed:
        vectors = embed(["one", "two"])                     # (2, width) float32, each of length 1
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from paredown.core.context import context
from paredown.core.errors import DataError
from paredown.engines.answer_store import STORE, Store

if TYPE_CHECKING:
    from paredown.engines.parts import Embedder

Array = np.ndarray[Any, Any]
Embed = Callable[[Sequence[str]], Array]
AT_ONCE = 512  # texts between two saves


class Embedding(Protocol):
    """What embeds, opened. A part of the kind `Embedder` gives one."""

    @property
    def identity(self) -> str:
        """Everything that decides a vector beside its text; empty where keeping vectors would cost more than making them."""

    def embed(self, texts: Sequence[str]) -> Array:
        """(texts, width) in any floating format and of any length."""

    def close(self) -> None: ...


@contextlib.contextmanager
def opened(embedder: Embedder, fitted_on: Sequence[str]) -> Iterator[Embed]:
    """A function from texts to unit vectors, (N, width) float32. `fitted_on` is what an embedder without a model of its own learns from.

    Raises:
        DataError: a text's vector is not finite.
    """
    with contextlib.closing(embedder.open(fitted_on)) as embedding:

        def straight(texts: Sequence[str]) -> Array:
            return _unit(embedding.embed(list(texts)), texts)

        if not embedding.identity:
            yield straight
            return
        step = context()
        with Store((step.shared or step.scratch) / STORE) as store:

            def kept(texts: Sequence[str]) -> Array:
                keys = [hashlib.sha256(f"vector\0{embedding.identity}\0{text}".encode()).digest() for text in texts]
                found = {key: row["vector"] for key, row in store.find(set(keys)).items()}
                missing = list({key: text for key, text in zip(keys, texts, strict=True) if key not in found}.items())
                for start in range(0, len(missing), AT_ONCE):
                    some = missing[start : start + AT_ONCE]
                    vectors = straight([text for _, text in some])
                    rows = {
                        key: base64.b64encode(vector.astype("<f4").tobytes()).decode()
                        for (key, _), vector in zip(some, vectors, strict=True)
                    }
                    store.put([(key, {"vector": vector}) for key, vector in rows.items()], embedding.identity)
                    found |= rows
                    step.progress(len(found), len(set(keys)), "texts", "embedding")
                return np.stack([np.frombuffer(base64.b64decode(found[key]), dtype="<f4") for key in keys]) if keys else np.empty((0, 0))

            yield kept


def _unit(vectors: Array, texts: Sequence[str]) -> Array:
    """Vectors of length 1 in float32; one of length 0 stays so, as it is like nothing."""
    vectors = np.asarray(vectors, dtype=np.float64)
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise DataError(f"the vector of a text is not finite: {texts[int(bad.argmax())][:80]!r}", where="embedder")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Array = (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return unit
