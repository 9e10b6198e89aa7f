"""A server as what answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from paredown.core.strategy import Count, Positive
from paredown.engines.endpoint_answers import Prices
from paredown.engines.parts import Answerer

if TYPE_CHECKING:
    from paredown.engines.generator import Backend


class Endpoint(Answerer):
    """Answer with any OpenAI-compatible server: a provider's, vLLM, SGLang, llama.cpp, LM Studio.

    Several requests run at once; what fails for a while is tried again after a growing random time, or when the server says so. Token
    counts that are missing or cannot be true are estimated at four bytes a token and counted as such. Options take a server that
    repeats a text with its log-probabilities (`api: completions`), or must be single tokens among the twenty likeliest of a chat's answer.

    Source: none (ours); the protocol is OpenAI's, back-off with full jitter as in Brooker 2015, AWS Architecture Blog.
    Costs: what the server takes for the tokens read and written; every answer is stored and paid for once.
    Control: none (it answers, and saves nothing)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-tokens", "speedup-none")
    extras: ClassVar[tuple[str, ...]] = ("llm",)

    base_url: str  # where the server is, such as http://localhost:8000/v1
    model: str  # the model's name there
    key_variable: str = ""  # environment variable that holds the key, which itself stands nowhere; empty: the server takes none
    api: Literal["chat", "completions"] = "chat"  # a prompt is what the user of a chat says, or a text that is gone on with
    version: str = ""  # of the model; another one asks anew, where a server changes a model but not its name
    concurrency: Count = 16  # requests at once
    timeout: Positive = 300.0  # seconds until a request is given up
    retries: Annotated[int, Field(ge=0)] = 8  # further tries of a request that failed
    backoff: Positive = 0.5  # seconds; the n-th further try waits for a random time up to this times 2^(n-1), 60 at most
    longest_wait: Positive = 300.0  # most seconds that a server may ask to wait (Retry-After) without the step being given up
    prices: Prices | None = None  # {prompt, completion, cached, currency} of a million tokens; without it money is not measured
    extra: dict[str, Any] = {}  # further fields of every request, such as {reasoning_effort: low}; null leaves one of ours out
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # what the server calls the most tokens of an answer

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        from paredown.engines.endpoints import address

        return address(value)

    def open(self) -> Backend:
        from paredown.engines import endpoint_answers
        from paredown.engines.endpoints import Service

        service = Service(self.base_url, self.key_variable, self.concurrency, self.timeout, self.retries, self.backoff, self.longest_wait)
        asked = endpoint_answers.Asked(self.model, self.api, self.version, self.extra, self.limit_field)
        return endpoint_answers.Endpoint(service, asked, self.prices)
