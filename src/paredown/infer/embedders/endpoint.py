"""A server as what makes vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, field_validator

from paredown.core.strategy import Count, Positive
from paredown.engines.parts import Embedder

if TYPE_CHECKING:
    from paredown.engines.embedder import Embedding


class Endpoint(Embedder):
    """Embed texts with the embeddings of any OpenAI-compatible server: a provider's, vLLM, llama.cpp, text-embeddings-inference.

    What fails for a while is tried again as an answerer's requests are. An empty text is sent as a space, as servers refuse none.

    Source: none (ours); the protocol is OpenAI's.
    Costs: what the server takes for the tokens of each text, once: vectors are kept by content.
    Control: infer.embedders.tfidf
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (89,)
    extras: ClassVar[tuple[str, ...]] = ("llm",)

    base_url: str  # where the server is, such as http://localhost:8000/v1
    model: str  # the model's name there
    key_variable: str = ""  # environment variable that holds the key, which itself stands nowhere; empty: the server takes none
    version: str = ""  # of the model; another one asks anew, where a server changes a model but not its name
    dimensions: Count | None = None  # width to ask for, of models that can be cut; the model's own where not given
    batch: Count = 64  # texts a request
    concurrency: Count = 4  # requests at once
    timeout: Positive = 300.0  # seconds until a request is given up
    retries: Annotated[int, Field(ge=0)] = 8  # further tries of a request that failed
    backoff: Positive = 0.5  # seconds; the n-th further try waits for a random time up to this times 2^(n-1), 60 at most
    longest_wait: Positive = 300.0  # most seconds that a server may ask to wait (Retry-After) without the step being given up
    price: Annotated[float, Field(ge=0)] | None = None  # money for a million tokens; without it money is not measured
    currency: str = "USD"  # of the price

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        from paredown.engines.endpoints import address

        return address(value)

    def open(self, fitted_on: Sequence[str]) -> Embedding:
        from paredown.engines.endpoint_vectors import EndpointVectors, Wanted
        from paredown.engines.endpoints import Service

        service = Service(self.base_url, self.key_variable, self.concurrency, self.timeout, self.retries, self.backoff, self.longest_wait)
        wanted = Wanted(self.model, self.version, self.dimensions, self.batch)
        return EndpointVectors(service, wanted, None if self.price is None else self.price / 1e6, self.currency)
