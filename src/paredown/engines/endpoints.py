"""Many requests to an OpenAI-compatible server: so many at once, tried again with back-off, stopped without losing an answer.

The requests run in a thread of their own, so that a notebook's event loop is not in the way, and the thread that asked stays free to
show progress and to hear Ctrl-C. What is in flight then is paid for: it is waited for and handed over; a second Ctrl-C gives it up.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import email.utils
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from paredown.core.errors import DataError, MachineError, MissingExtra, PareError, UserError

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

AGAIN = frozenset({408, 409, 425, 429, *range(500, 600)} - {501, 505})  # states of an answer that may be another one later
SPENT = ("insufficient_quota", "billing_hard_limit_reached")  # a 429 that no waiting mends
LONGEST_BACKOFF = 60.0  # seconds
GRACE = 30.0  # seconds that what is in flight gets after Ctrl-C
BEAT = 0.1  # seconds between two reports


class Unusable(Exception):
    """The server answered with success, but not what was asked for; worth another try."""


@dataclass(frozen=True)
class Service:
    """Where to ask and how; see the knobs of `infer.answerers.endpoint`."""

    base_url: str
    key_variable: str = ""
    concurrency: int = 16
    timeout: float = 300.0
    retries: int = 8
    backoff: float = 0.5
    longest_wait: float = 300.0


@dataclass(frozen=True)
class Request:
    """One request and how its answer is read."""

    path: str  # below the base URL, such as /chat/completions
    body: Mapping[str, Any]
    read: Callable[[Any, float], Any]  # (the answer's JSON, seconds that it took) -> result; raises Unusable
    about: str = ""  # what an error names


Arrived = Callable[[int, Any, Callable[[], object]], None]  # (number, result, to be called from any thread when the result is safe)


@dataclass
class Counts:
    retries: int = 0
    in_flight: int = 0


@dataclass
class _Run:
    """The state of one call of `run`; touched only by the event loop, but for `stopped` that is set through it."""

    pending: Iterator[tuple[int, Request]]
    arrived: Arrived
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Exception | None = None


class Connection:
    """To one server; nothing is opened before the first request."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.counts = Counts()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: AsyncOpenAI | None = None
        self._key = ""
        self._unsent: dict[str, Any] = {}  # headers that the client would add
        self._not_before = 0.0  # time.monotonic() until which the server asked not to be asked

    def run(self, requests: Sequence[Request], arrived: Arrived, report: Callable[[str], None]) -> None:
        """Send all; `arrived` is called in the thread of the requests, `report(note)` in this one.

        A request counts as one of those at once until its result is safe, so that a kill loses no more results than that.

        Raises:
            UserError: the server refuses a request, its key or the model.
            DataError: a request got no usable answer in all its tries.
            KeyboardInterrupt: stopped; what was in flight has arrived, or 30 seconds were not enough for it.
        """
        self._start()
        assert self._loop is not None
        run = _Run(iter(list(enumerate(requests))), arrived)
        future = asyncio.run_coroutine_threadsafe(self._all(run, len(requests)), self._loop)
        try:
            while not concurrent.futures.wait([future], BEAT).done:
                report("")
            future.result()
            report("")
        except BaseException:
            self._loop.call_soon_threadsafe(run.stopped.set)
            with contextlib.suppress(KeyboardInterrupt):
                if not future.done() and self.counts.in_flight:
                    report(f"stopping; {self.counts.in_flight} answers on their way are waited for")
            with contextlib.suppress(KeyboardInterrupt):
                concurrent.futures.wait([future], GRACE)
            future.cancel()
            raise

    def close(self) -> None:
        if self._loop is None or self._thread is None:
            return
        if self._client is not None:
            with contextlib.suppress(Exception):
                asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = self._client = None

    def _start(self) -> None:
        if self._loop is not None:
            return
        self._client = self._connect()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="requests", daemon=True)
        self._thread.start()

    def _connect(self) -> AsyncOpenAI:
        try:
            from openai import AsyncOpenAI, Omit
        except ModuleNotFoundError:
            raise MissingExtra("llm", "an endpoint", "openai") from None
        service = self.service
        self._key = key_from(service.key_variable)
        if not self._key:
            self._unsent["Authorization"] = Omit()
        if not (urlsplit(service.base_url).hostname or "").endswith("openai.com"):
            self._unsent |= {
                "OpenAI-Organization": Omit(),
                "OpenAI-Project": Omit(),
            }  # the client takes them from the environment for whomever
        return AsyncOpenAI(api_key=self._key or "none", base_url=service.base_url, timeout=service.timeout, max_retries=0)

    # --- in the thread of the requests

    async def _all(self, run: _Run, many: int) -> None:
        await asyncio.gather(*(self._work(run) for _ in range(min(self.service.concurrency, many))))
        if run.failure:
            raise run.failure

    async def _work(self, run: _Run) -> None:
        while not run.stopped.is_set() and (item := next(run.pending, None)):
            try:
                done, result = await self._one(item[1], run.stopped)
                if done:
                    await self._hand_over(run, item[0], result)
            except Exception as error:  # whatever it is, the answers of the others are waited for before it is raised
                run.failure = run.failure or error
                run.stopped.set()

    async def _hand_over(self, run: _Run, number: int, result: Any) -> None:
        loop = asyncio.get_running_loop()
        safe = asyncio.Event()
        run.arrived(number, result, lambda: loop.call_soon_threadsafe(safe.set))
        await safe.wait()

    async def _one(self, request: Request, stopped: asyncio.Event) -> tuple[bool, Any]:
        """(whether it was answered before all was stopped, the answer)."""
        import orjson

        jitter = random.Random(hashlib.sha256(orjson.dumps(request.body)).digest())
        reason = ""
        for attempt in range(self.service.retries + 1):
            if not await self._patience(stopped):
                return False, None
            self.counts.retries += attempt > 0
            self.counts.in_flight += 1
            try:
                return True, await self._send(request)
            except Exception as error:
                reason, asked = self._trouble(error, request)
            finally:
                self.counts.in_flight -= 1
            # full jitter: anything up to the doubled wait, so that those that failed together do not come back together
            wait = jitter.uniform(0, min(LONGEST_BACKOFF, self.service.backoff * 2**attempt))
            if asked is not None:
                if asked > self.service.longest_wait:
                    raise DataError(
                        f"the server wants {asked:,.0f} s without a request; longest_wait allows {self.service.longest_wait:,.0f} s",
                        where=self.service.base_url,
                        todo="run again later: what was answered is kept",
                    )
                self._not_before = max(self._not_before, time.monotonic() + asked)
                wait = asked + min(wait, self.service.backoff)
            if attempt < self.service.retries and not await _unless(stopped, wait):
                return False, None
        raise DataError(
            f"no usable answer in {self.service.retries + 1} tries; the last time {reason}",
            where=f"{self.service.base_url}{request.path}",
            todo="run again: what was answered is kept and is not paid for twice",
        )

    async def _patience(self, stopped: asyncio.Event) -> bool:
        """Wait as long as the server asked for; False where all was stopped."""
        while (left := self._not_before - time.monotonic()) > 0:
            if not await _unless(stopped, left):
                return False
        return not stopped.is_set()

    async def _send(self, request: Request) -> Any:
        assert self._client is not None
        begun = time.perf_counter()
        async with asyncio.timeout(self.service.timeout):  # the client's own is for each piece that arrives
            content = await self._client.post(request.path, body=request.body, cast_to=bytes, options={"headers": self._unsent})
        return request.read(parsed(content), time.perf_counter() - begun)

    def _trouble(self, error: Exception, request: Request) -> tuple[str, float | None]:
        """What went wrong in words, and the seconds that the server asked to wait.

        Raises:
            PareError: another try would be of no use.
        """
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        if isinstance(error, (TimeoutError, APITimeoutError)):
            return f"there was no answer within {self.service.timeout:g} s", None
        if isinstance(error, APIStatusError):
            if error.status_code in AGAIN and error.code not in SPENT:
                return f"the server said {error.status_code}: {self._said(error)}", retry_after(error.response.headers, time.time())
            raise self._refused(error, request) from None
        if isinstance(error, APIConnectionError):
            cause = error.__cause__ or error
            return f"the connection failed: {self._scrubbed(str(cause) or type(cause).__name__)}", None
        if isinstance(error, Unusable):
            return self._scrubbed(str(error)), None
        raise error

    def _refused(self, error: APIStatusError, request: Request) -> PareError:
        state, said, where = error.status_code, self._said(error), f"{self.service.base_url}{request.path}"
        if state in (401, 403):
            variable = self.service.key_variable
            todo = (
                f"look at the environment variable {variable}"
                if variable
                else "name the environment variable that holds the key: key_variable"
            )
            return UserError(
                f"the server refuses {'the key' if variable else 'requests without a key'} ({state}): {said}", where=where, todo=todo
            )
        if state == 402 or error.code in SPENT:
            return MachineError(f"the server wants money first ({state}): {said}", where=where, todo="then run again: answers are kept")
        if state in (404, 405):
            return UserError(f"the server has no such address or model ({state}): {said}", where=where, todo="look at base_url and model")
        return UserError(f"the server refuses a question ({state}): {said}", where=f"{where}, {request.about}")

    def _said(self, error: APIStatusError) -> str:
        body = error.body
        text = str(body.get("message") or body) if isinstance(body, dict) else error.response.text
        return self._scrubbed(text) or "nothing more"

    def _scrubbed(self, text: str) -> str:
        """One line that never holds the key, whoever repeats it."""
        return " ".join((text.replace(self._key, "***") if self._key else text).split())[:300]


async def _unless(stopped: asyncio.Event, seconds: float) -> bool:
    """Wait; False at once where all is stopped."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopped.wait(), seconds)
    return not stopped.is_set()


def parsed(content: bytes) -> Any:
    """An answer's JSON.

    Raises:
        Unusable: it is none, or was cut.
    """
    import json

    import orjson

    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        with contextlib.suppress(ValueError, RecursionError):  # half surrogates, NaN: bent, but there
            return json.loads(content)
        raise Unusable(f"the answer was no whole JSON ({error}): {content[:100].decode(errors='replace')!r}") from None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a server asks to wait, from seconds or a date; None where it does not say."""
    with contextlib.suppress(KeyError, ValueError):
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    said = headers.get("retry-after")
    if said is None:
        return None
    with contextlib.suppress(ValueError):
        seconds = float(said)
        return max(0.0, seconds) if seconds == seconds else None
    with contextlib.suppress(ValueError, TypeError):
        until = email.utils.parsedate_to_datetime(said).timestamp()
        with contextlib.suppress(KeyError, ValueError, TypeError):  # by the server's own clock where it tells it
            now = email.utils.parsedate_to_datetime(headers["date"]).timestamp()
        return max(0.0, until - now)
    return None


def key_from(variable: str) -> str:
    """The key that an environment variable holds; empty where no variable is named.

    Raises:
        UserError: it holds none, or what cannot be one.
    """
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(f"the environment variable {variable} holds no key", todo=f"set {variable}, or name another one: key_variable")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise UserError(f"the environment variable {variable} holds what cannot be a key: spaces or characters beyond ASCII")
    return key


def address(url: str) -> str:
    """A base URL as it is written everywhere: without a slash at its end.

    Raises:
        ValueError: it is none, or it holds what must not stand in a recipe.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an address such as https://api.example.com/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address must hold no user or password: name an environment variable instead (key_variable)")
    if parts.query or parts.fragment:
        raise ValueError("an address must hold no query")
    return url.rstrip("/")
