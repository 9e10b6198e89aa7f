"""An OpenAI-compatible server as what embeds: texts become requests of several, and vectors are looked at before they are believed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from paredown.core.context import context
from paredown.core.errors import DataError
from paredown.engines.embedder import Paid
from paredown.engines.endpoint_answers import BYTES_PER_TOKEN, plausible
from paredown.engines.endpoints import Connection, Request, Service, Unusable

MARKS = 8  # tokens that a server may add to a text


@dataclass(frozen=True)
class Wanted:
    """Which vectors."""

    model: str
    version: str = ""
    dimensions: int | None = None
    batch: int = 64  # texts a request


class EndpointVectors:
    """The opened embedder."""

    def __init__(self, service: Service, wanted: Wanted, price: float | None, currency: str) -> None:
        self.connection, self.wanted = Connection(service), wanted
        self.price, self.currency = price, currency
        named = (service.base_url, wanted.model, wanted.version, f"{wanted.dimensions} dimensions" if wanted.dimensions else "")
        self.identity = " ".join(["embeddings", *(part for part in named if part)])

    def embed(self, texts: Sequence[str]) -> Paid:
        """
        Raises:
            PareError: the server refuses a text, gave no usable vectors in all its tries, or vectors of several widths.
        """
        batches = [list(texts[start : start + self.wanted.batch]) for start in range(0, len(texts), self.wanted.batch)]
        found: dict[int, Paid] = {}

        def arrived(number: int, made: Paid, stored: Callable[[], object]) -> None:
            found[number] = made
            stored()

        def report(note: str) -> None:
            if note:
                context().progress(len(found), len(batches), "requests", note)

        self.connection.run([self._request(batch) for batch in batches], arrived, report)
        made = [found[number] for number in range(len(batches))]
        widths = {part.vectors.shape[1] for part in made}
        if len(widths) > 1:
            raise DataError(f"the server gave vectors of several widths: {sorted(widths)}", where=self.identity)
        return Paid(np.concatenate([part.vectors for part in made]), [count for part in made for count in part.tokens])

    def _request(self, texts: list[str]) -> Request:
        body: dict[str, Any] = {"model": self.wanted.model, "input": [text or " " for text in texts], "encoding_format": "float"}
        if self.wanted.dimensions:
            body["dimensions"] = self.wanted.dimensions
        return Request("/embeddings", body, partial(read, texts), f"the text that begins with {texts[0][:60]!r}")

    def close(self) -> None:
        self.connection.close()


def read(texts: Sequence[str], body: Any, seconds: float) -> Paid:
    """The vectors in the order of the texts, and the tokens of each: the server's count shared by bytes, or four bytes a token where it
    gives none that can be true.

    Raises:
        Unusable: there is not one vector of finite numbers for each text.
    """
    rows = body.get("data") if isinstance(body, dict) else None
    if not isinstance(rows, list) or len(rows) != len(texts) or not all(isinstance(row, dict) for row in rows):
        raise Unusable(f"the answer does not hold {len(texts)} vectors: {str(body)[:100]}")
    by_place = {index: row.get("embedding") for n, row in enumerate(rows) if isinstance(index := row.get("index", n), int)}
    vectors = [by_place.get(number) for number in range(len(texts))]
    if not all(map(_numbers, vectors)) or len({len(vector) for vector in vectors if vector}) != 1:
        raise Unusable("a vector is missing, of another width, or holds what is no finite number")
    sizes = [max(1, len(text.encode(errors="replace"))) for text in texts]
    usage = body.get("usage")
    counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    total = plausible(counted, sum(sizes), sum(sizes) + MARKS * len(texts), least=1)
    share = 1 / BYTES_PER_TOKEN if total is None else total / sum(sizes)
    return Paid(np.array(vectors, dtype=np.float64), [size * share for size in sizes])


def _numbers(vector: Any) -> bool:
    """A list of finite numbers."""
    return (
        isinstance(vector, list)
        and bool(vector)
        and all(isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) for value in vector)
    )
