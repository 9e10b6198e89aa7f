"""An OpenAI-compatible server as what answers: questions become requests, and what comes back is looked at before it is believed.

Token counts are what is paid by, so they are checked: a count that is missing, or that the text could not have (a token is at
least a byte, and at most 128), is replaced by an estimate of four bytes a token. Such an answer says so (`estimated`), and the facts of the
step count them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import Annotated, Any, Literal

from pydantic import Field

from paredown.core.errors import UserError
from paredown.core.strategy import Configured
from paredown.engines.endpoints import Connection, Request, Service, Unusable
from paredown.engines.generator import Answer, Question, Sampling, Tray, cut_at_stop, messages, seed_of

BYTES_PER_TOKEN = 4  # of an estimate
LONGEST_TOKEN = 128  # bytes
TEMPLATE = 1024  # tokens that a server's chat template and its own instructions may add
LISTED = 20  # likeliest tokens that a chat server lists


class Prices(Configured):
    """Money for a million tokens."""

    prompt: Annotated[float, Field(ge=0)]  # read
    completion: Annotated[float, Field(ge=0)]  # written
    cached: Annotated[float, Field(ge=0)] | None = None  # read from the server's cache; None: as others that are read
    currency: Annotated[str, Field(min_length=1)] = "USD"


@dataclass(frozen=True)
class Asked:
    """What is asked of whom, beside question and sampling."""

    model: str
    api: Literal["chat", "completions"] = "chat"
    version: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    limit_field: str = "max_tokens"


class Endpoint:
    """The backend."""

    def __init__(self, service: Service, asked: Asked, prices: Prices | None) -> None:
        self.connection = Connection(service)
        self.asked = asked
        self.prices = prices

    @property
    def identity(self) -> str:
        import orjson

        extra = orjson.dumps(self.asked.extra, option=orjson.OPT_SORT_KEYS).decode() if self.asked.extra else ""
        named = (self.connection.service.base_url, self.asked.api, self.asked.model, self.asked.version, extra)
        return " ".join(part for part in named if part)

    @property
    def currency(self) -> str:
        return self.prices.currency if self.prices else ""

    def price(self, answer: Answer) -> float | None:
        if self.prices is None:
            return None
        cached = self.prices.prompt if self.prices.cached is None else self.prices.cached
        fresh = answer.prompt_tokens - answer.cached_tokens
        return (fresh * self.prices.prompt + answer.cached_tokens * cached + answer.completion_tokens * self.prices.completion) / 1e6

    def close(self) -> None:
        self.connection.close()

    def ask(self, questions: Sequence[Question], sampling: Sampling, tray: Tray) -> None:
        requests = [self._request(question, sampling) for question in questions]
        before = self.connection.counts.retries

        def report(note: str) -> None:
            nonlocal before
            now = self.connection.counts.retries
            retries, before = now - before, now
            tray.report(retries, note)

        self.connection.run(requests, lambda number, answer, stored: tray.put([(number, answer)], stored), report)

    def _request(self, question: Question, sampling: Sampling) -> Request:
        body: dict[str, Any] = {"model": self.asked.model}
        chat = self.asked.api == "chat"
        if chat:
            body["messages"] = messages(question.prompt)
        elif isinstance(question.prompt, str):
            body["prompt"] = question.prompt
        else:
            raise UserError("a chat cannot be asked of plain completions", where=self.identity, todo="api: chat")
        read = read_chat if chat else read_completion
        if question.options:
            read = read_listed if chat else read_echoed
            body |= {"max_tokens": 1, "logprobs": True, "top_logprobs": LISTED} if chat else {"max_tokens": 0, "logprobs": 1, "echo": True}
            if not chat:
                body["prompt"] = [f"{question.prompt}{option}" for option in question.options]
            body["temperature"] = 0.0
        else:
            body |= {self.asked.limit_field: sampling.max_tokens, "temperature": sampling.temperature}
            if sampling.temperature > 0:
                body |= {"top_p": sampling.top_p, "seed": seed_of(question, sampling) % 2**31}
                body |= {"top_k": sampling.top_k} if sampling.top_k else {}
            body |= {"stop": list(sampling.stop)} if sampling.stop else {}
        body = {name: value for name, value in {**body, **self.asked.extra}.items() if value is not None}
        text = question.prompt if isinstance(question.prompt, str) else question.prompt[-1][1]
        about = f"the question that ends with {text[-60:]!r}"
        return Request("/chat/completions" if chat else "/completions", body, partial(read, question, sampling), about)


# --- what comes back


def read_chat(question: Question, sampling: Sampling, body: Any, seconds: float) -> Answer:
    choice = _choices(body, 1)[0]
    message = choice.get("message")
    if not isinstance(message, dict):
        raise Unusable("the answer holds no message")
    text, finish = message.get("content"), str(choice.get("finish_reason") or "stop")
    if text is None:
        text = message.get("refusal") or ("" if finish in ("length", "content_filter") else None)
    thought = message.get("reasoning_content") or message.get("reasoning") or ""
    return _answer(question, sampling, body, text, finish, seconds, hidden=len(str(thought).encode(errors="replace")))


def read_completion(question: Question, sampling: Sampling, body: Any, seconds: float) -> Answer:
    choice = _choices(body, 1)[0]
    return _answer(question, sampling, body, choice.get("text"), str(choice.get("finish_reason") or "stop"), seconds)


def read_echoed(question: Question, sampling: Sampling, body: Any, seconds: float) -> Answer:
    """Log-probabilities of options from texts that the server repeats with those of their tokens."""
    assert isinstance(question.prompt, str)
    prompt = len(question.prompt)
    rows = [
        _echo(choice, question.prompt, option)
        for option, choice in zip(question.options, _choices(body, len(question.options)), strict=True)
    ]
    start = 0  # the first token that is an option's in part or whole, or in which the options differ
    while all(start + 1 < len(row) and row[start + 1][2] <= prompt for row in rows) and len({row[start][0] for row in rows}) == 1:
        start += 1
    scored = [[value for _, value, _ in row[start:]] for row in rows]
    if any(not isinstance(value, (int, float)) or not math.isfinite(value) for values in scored for value in values):
        raise _no_probabilities(
            "it has none for the first token of a text; give a prompt before the options" if not start else "one is no number"
        )
    counts = _counts(body, [question.prompt + option for option in question.options], "", 0, 0)
    return Answer(logprobs=tuple(math.fsum(values) for values in scored), option_tokens=tuple(map(len, scored)), seconds=seconds, **counts)


def _echo(choice: dict[str, Any], prompt: str, option: str) -> list[tuple[str, Any, int]]:
    """(token, log-probability, where it begins) of the prompt and one option behind it."""
    said, whole = choice.get("logprobs"), prompt + option
    tokens, values, offsets = (said.get(name) if isinstance(said, dict) else None for name in ("tokens", "token_logprobs", "text_offset"))
    if not (isinstance(tokens, list) and isinstance(values, list) and len(tokens) == len(values)):
        raise _no_probabilities("it gives none for the tokens of a text (logprobs)")
    begun = "".join(map(str, tokens)).find(whole)
    if begun >= 0:  # so that a mark at the beginning counts for none of the text's letters, whatever the server's offsets say
        offsets = [place - begun for place in accumulate(map(len, map(str, tokens)), initial=0)][:-1]
    elif not (isinstance(offsets, list) and len(offsets) == len(tokens) and len(offsets) > 1 and offsets[-1] >= len(prompt)):
        raise _no_probabilities("it does not repeat the text that it was given (echo)")
    return [row for row in zip(tokens, values, offsets, strict=True) if row[2] < len(whole)]


def read_listed(question: Question, sampling: Sampling, body: Any, seconds: float) -> Answer:
    """Log-probabilities of options of one token from the likeliest first tokens that a chat server lists."""
    choice = _choices(body, 1)[0]
    try:
        listed = {str(row["token"]): float(row["logprob"]) for row in choice["logprobs"]["content"][0]["top_logprobs"]}
    except (KeyError, TypeError, IndexError, ValueError):
        raise _no_probabilities("it lists none of an answer's likeliest tokens (top_logprobs)") from None
    missing = [option for option in question.options if option not in listed]
    if missing:
        raise _no_probabilities(
            f"{missing[0]!r} is not among the {len(listed)} likeliest first tokens of a chat's answer, of which alone it tells"
        )
    counts = _counts(body, [content["content"] for content in messages(question.prompt)], str(next(iter(listed), "")), 1, 0)
    return Answer(
        logprobs=tuple(listed[option] for option in question.options), option_tokens=(1,) * len(question.options), seconds=seconds, **counts
    )


def _no_probabilities(why: str) -> UserError:
    return UserError(
        f"the server does not give the log-probabilities of options: {why}",
        todo="ask a server that repeats a text with its log-probabilities (vLLM, api: completions) or a local model, or ask for a short answer",
    )


def _choices(body: Any, many: int) -> list[dict[str, Any]]:
    found = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(found, list) or len(found) != many or not all(isinstance(choice, dict) for choice in found):
        raise Unusable(f"the answer holds no {'choice' if many == 1 else f'{many} choices'}: {str(body)[:100]}")
    return sorted(found, key=lambda choice: choice.get("index") or 0)


def _answer(question: Question, sampling: Sampling, body: Any, text: Any, finish: str, seconds: float, hidden: int = 0) -> Answer:
    if not isinstance(text, str):
        raise Unusable("the answer holds no text")
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half of a pair is no character
    cut = cut_at_stop(text, sampling.stop)  # where a server does not do it
    read = [content["content"] for content in messages(question.prompt)]
    counts = _counts(body, read, text, sampling.max_tokens, hidden)
    return Answer(text=text if cut is None else cut, finish=finish if cut is None else "stop", seconds=seconds, **counts)


def _counts(body: dict[str, Any], read: Sequence[str], written: str, most: int, hidden: int) -> dict[str, Any]:
    """The server's token counts where they can be true, otherwise estimates; `hidden` bytes were written that are no part of the answer."""
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    in_bytes, out_bytes = sum(len(text.encode()) for text in read), len(written.encode()) + hidden
    prompt = plausible(usage.get("prompt_tokens"), in_bytes, in_bytes + TEMPLATE * len(read), least=1)
    completion = plausible(usage.get("completion_tokens", None if most else 0), out_bytes, max(out_bytes, most) + 1, least=0)
    cached = cached if isinstance(cached, int) and not isinstance(cached, bool) and 0 <= cached <= (prompt or 0) else 0
    return {
        "prompt_tokens": max(1, -(-in_bytes // BYTES_PER_TOKEN)) if prompt is None else prompt,
        "completion_tokens": -(-out_bytes // BYTES_PER_TOKEN) if completion is None else completion,
        "cached_tokens": cached,
        "estimated": prompt is None or completion is None,
    }


def plausible(count: Any, size: int, most: int, least: int) -> int | None:
    """A count that a text of `size` bytes can have, or None."""
    whole = isinstance(count, int) and not isinstance(count, bool)
    return count if whole and max(least, size // LONGEST_TOKEN) <= count <= most else None
