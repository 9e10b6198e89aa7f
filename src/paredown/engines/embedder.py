"""Texts as vectors: whatever embeds them, each text once.

What costs something, a model or a server, is kept in the store of answers under the hash of the text and of what embeds it, so
that nothing is paid twice and a killed run goes on where it was, but for the texts that were under way (512 at most). A step is charged
for the tokens of every text that it embeds as if none had been stored, once for each opening.

    with opened(embedder, fitted_on=texts) as embed:
        vectors = embed(["one", "two"])                     # (2, width) float32, each of length 1
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from paredown.core.context import Context, context
from paredown.core.errors import DataError
from paredown.engines.answer_store import STORE, Store

if TYPE_CHECKING:
    from paredown.engines.parts import Embedder

Array = np.ndarray[Any, Any]
Embed = Callable[[Sequence[str]], Array]
AT_ONCE = 512  # texts between two saves


@dataclass(frozen=True)
class Paid:
    """Vectors of texts whose tokens somebody counts."""

    vectors: Array
    tokens: list[float]  # of each text


class Embedding(Protocol):
    """What embeds, opened. A part of the kind `Embedder` gives one."""

    @property
    def identity(self) -> str:
        """Everything that decides a vector beside its text; empty where keeping vectors would cost more than making them."""

    def embed(self, texts: Sequence[str]) -> Array | Paid:
        """(texts, width) in any floating format and of any length."""

    def close(self) -> None: ...


@runtime_checkable
class Priced(Protocol):
    """An Embedding that may cost money."""

    price: float | None  # of a token; None where it is not known
    currency: str


@contextlib.contextmanager
def opened(embedder: Embedder, fitted_on: Sequence[str]) -> Iterator[Embed]:
    """A function from texts to unit vectors, (N, width) float32. `fitted_on` is what an embedder without a model of its own learns from.

    Raises:
        DataError: a text's vector is not finite.
    """
    with contextlib.closing(embedder.open(fitted_on)) as embedding:
        if not embedding.identity:
            yield lambda texts: _made(embedding, texts).vectors
            return
        step = context()
        charged: set[bytes] = set()
        with Store((step.shared or step.scratch) / STORE) as store:

            def kept(texts: Sequence[str]) -> Array:
                keys = [hashlib.sha256(f"vector\0{embedding.identity}\0{text}".encode()).digest() for text in texts]
                found = store.find(set(keys))
                missing = list({key: text for key, text in zip(keys, texts, strict=True) if key not in found}.items())
                for start in range(0, len(missing), AT_ONCE):
                    some = missing[start : start + AT_ONCE]
                    made = _made(embedding, [text for _, text in some])
                    rows = {
                        key: {"vector": base64.b64encode(vector.astype("<f4").tobytes()).decode(), "tokens": tokens}
                        for (key, _), vector, tokens in zip(some, made.vectors, made.tokens, strict=True)
                    }
                    store.put(list(rows.items()), embedding.identity)
                    found |= rows
                    step.progress(len(found), len(set(keys)), "texts", "embedding")
                new = [found[key].get("tokens", 0.0) for key in dict.fromkeys(keys) if key not in charged]
                charged.update(keys)
                _charge(step, embedding, new)
                vectors = [np.frombuffer(base64.b64decode(found[key]["vector"]), dtype="<f4") for key in keys]
                if len({len(vector) for vector in vectors}) > 1:
                    raise DataError(
                        "vectors are of different widths", where=embedding.identity, todo="change version, where a server changed its model"
                    )
                return np.stack(vectors) if vectors else np.empty((0, 0))

            yield kept


def _charge(step: Context, embedding: Embedding, tokens: Sequence[float]) -> None:
    total = sum(tokens)
    if not total:
        return
    step.charge(tokens=round(total))
    fact = step.facts.setdefault("embedded", {}).setdefault(embedding.identity, {"texts": 0, "tokens": 0.0})
    fact["texts"], fact["tokens"] = fact["texts"] + len(tokens), fact["tokens"] + total
    if isinstance(embedding, Priced) and embedding.price is not None:
        step.charge(money=total * embedding.price, currency=embedding.currency)


def _made(embedding: Embedding, texts: Sequence[str]) -> Paid:
    made = embedding.embed(list(texts))
    vectors, tokens = (made.vectors, made.tokens) if isinstance(made, Paid) else (made, [0.0] * len(texts))
    return Paid(_unit(vectors, texts), tokens)


def _unit(vectors: Array, texts: Sequence[str]) -> Array:
    """Vectors of length 1 in float32; one of length 0 stays so, as it is like nothing."""
    vectors = np.asarray(vectors, dtype=np.float64)
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise DataError(f"the vector of a text is not finite: {texts[int(bad.argmax())][:80]!r}", where="embedder")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Array = (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return unit
