"""Asks whatever answers, a model here or a server, and never for the same answer twice.

Every answer is stored under the hash of its question, of what answers and of the sampling, as soon as it is there (see
`answer_store`). What a step makes therefore does not depend on whether its answers came from the store; what it costs is
counted as if nothing had been stored, so that arms compare, and what was paid now stands beside it in the facts.

    with opened(answerer) as generator:                      # a Model, or a part such as infer.answerers.endpoint
        answers = generator.answer([Question("2 + 2 =")], Sampling(max_tokens=8))
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from paredown.artifacts.model import Model
from paredown.core.context import Context, context
from paredown.core.errors import DataError, PareError, UserError
from paredown.engines.answer_store import STORE, Store

if TYPE_CHECKING:
    from paredown.engines.parts import Answerer

WAIT = 0.2  # seconds between two looks for an answer that another process asks for
FORMAT = 1  # of keys; raise it when what a question means changes
Message = tuple[str, str]  # (role, content)


@dataclass(frozen=True)
class Question:
    """What is asked.

    With `options` nothing is generated: each option's log-probability as continuation of the prompt is asked for, summed
    over the tokens from the first one in which the options' texts and the prompt can differ. So a token that holds the
    prompt's last letters and an option's first ones counts, for every option alike.
    """

    prompt: str | tuple[Message, ...]  # text to continue, or a chat
    options: tuple[str, ...] = ()
    sample: int = 0  # number of the draw: at temperature > 0 another number is another answer


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn; part of its key as far as it matters (at temperature 0 no seed does)."""

    max_tokens: int = 256
    temperature: float = 0.0  # 0: the likeliest token
    top_p: float = 1.0  # draw only from the likeliest tokens that together have this probability
    top_k: int = 0  # draw only from this many likeliest tokens; 0: from all
    stop: tuple[str, ...] = ()  # texts before which an answer ends
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """What was answered, and what that took when it was made."""

    text: str = ""
    logprobs: tuple[float, ...] = ()  # natural log-probability of each option, summed over its tokens
    option_tokens: tuple[int, ...] = ()  # tokens of each option, to normalise by length
    prompt_tokens: int = 0  # tokens read, cached ones included; with options those of all readings
    completion_tokens: int = 0  # tokens written
    cached_tokens: int = 0  # of the prompt's tokens those that were not computed again: a server's cache, a shared beginning
    finish: str = "stop"  # "stop", or "length" where max_tokens or the model's context cut it
    seconds: float = 0.0  # of the call; no result may depend on it
    flops: float = 0.0  # computed here; 0 of a server's
    cut_tokens: int = 0  # tokens of the prompt's beginning that did not fit into the model's context
    estimated: bool = False  # the server's token counts were missing or impossible, and these are estimates


class Tray(Protocol):
    """Where what answers puts its answers."""

    def put(self, answers: Sequence[tuple[int, Answer]], stored: Callable[[], object] | None = None) -> None:
        """Answers by the number of their question, stored together or not at all. Any thread may call it; `stored` is called, in another
        one, when no kill can take them any more. Who pays for answers waits for it before asking more."""

    def report(self, retries: int = 0, note: str = "") -> None:
        """Say how far it is; called now and then in the thread that asked. Raises KeyboardInterrupt where the user stopped the run."""


class Backend(Protocol):
    """What answers, opened. A part of the kind `Answerer` gives one."""

    @property
    def identity(self) -> str:
        """Everything that decides an answer beside question and sampling."""

    @property
    def currency(self) -> str:
        """Of `price`; empty where nothing costs money."""

    def ask(self, questions: Sequence[Question], sampling: Sampling, tray: Tray) -> None:
        """Answer all of these distinct questions, each put on the tray as soon as it is there.

        Raises:
            PareError: some could not be answered; what was put on the tray is kept.
        """

    def price(self, answer: Answer) -> float | None:
        """Money that the answer cost; None where no price is known."""

    def close(self) -> None: ...


@dataclass
class Usage:
    """What was asked through one generator. Totals count every distinct question as if it had not been stored."""

    questions: int = 0
    distinct: int = 0
    stored: int = 0  # of the distinct ones those whose answer lay in the store
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cut_tokens: int = 0
    estimated: int = 0  # answers whose token counts are estimates
    money: float | None = None
    money_now: float | None = None  # without what lay in the store
    currency: str = ""
    tokens_now: int = 0  # prompt and completion, without what lay in the store
    flops: float = 0.0
    seconds: float = 0.0  # of all calls, one after the other
    retries: int = 0


class Generator:
    """Answers questions from the store, and asks for what is not there. Made by `opened`."""

    def __init__(self, backend: Backend, store: Store, step: Context) -> None:
        self.backend = backend
        self.store = store
        self.step = step
        self.usage = Usage(currency=backend.currency)
        self._seen: set[bytes] = set()

    @property
    def identity(self) -> str:
        """What answers: the hash of a local model's files, or a server's address and the model's name there."""
        return self.backend.identity

    @property
    def cut(self) -> str:
        """What a measurement must not keep to itself: that prompts were longer than what answers can read."""
        lost = self.usage.cut_tokens
        return f"; {lost:,} tokens at the beginnings of prompts did not fit into the model's context" if lost else ""

    def answer(self, questions: Sequence[Question], sampling: Sampling | None = None) -> list[Answer]:
        """The answers in the order of the questions; the same question is asked once.

        Raises:
            DataError: some were not answered; the error says how many were, and they are kept.
            UserError: an option is empty, or what answers does not say how likely options are.
        """
        sampling = sampling or Sampling()
        if any(not option for question in questions for option in question.options):
            raise UserError("an option is empty: it has no probability", where=self.identity)
        keys = [answer_key(self.identity, question, sampling) for question in questions]
        distinct = dict(zip(keys, questions, strict=True))
        found = self._find(distinct)
        stored = set(found)
        tray = _Tray(self, found, distinct)
        try:
            while missing := [key for key in distinct if key not in found]:
                with self.store.claimed(missing) as mine:
                    found |= (late := self._find({key: distinct[key] for key in missing}))  # what another process asked for and got
                    stored |= late.keys()
                    tray.keys = [key for key in missing if key in mine and key not in found]
                    if tray.keys:
                        self.backend.ask([distinct[key] for key in tray.keys], sampling, tray)
                if lost := [key for key in tray.keys if key not in found]:
                    raise DataError(f"{len(lost)} questions were not answered", where=self.identity)
                if len(found) < len(distinct):
                    self.step.progress(len(found), len(distinct), "answers", "another process asks for the rest; waiting")
                    time.sleep(WAIT)
            tray.report()
        except PareError as error:
            error.kept = error.kept or (f"{len(found):,} of {len(distinct):,} answers, which are not asked for again" if found else "")
            raise
        finally:
            self._count(questions, found, stored)
        return [found[key] for key in keys]

    def _find(self, questions: dict[bytes, Question]) -> dict[bytes, Answer]:
        """Stored answers; not those that lack a log-probability of an option."""
        found = {key: Answer(**stored) for key, stored in self.store.find(questions).items()}
        return {key: answer for key, answer in found.items() if len(answer.logprobs) == len(questions[key].options)}

    def _count(self, questions: Sequence[Question], found: dict[bytes, Answer], stored: set[bytes]) -> None:
        """Charge the step for each answer that it has not been charged for."""
        usage, step = self.usage, self.step
        usage.questions += len(questions)
        for key, answer in list(found.items()):
            if key in self._seen:
                continue
            self._seen.add(key)
            now = key not in stored
            tokens, money = answer.prompt_tokens + answer.completion_tokens, self.backend.price(answer)
            usage.distinct += 1
            usage.stored += not now
            usage.tokens_now += tokens * now
            for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "cut_tokens", "estimated", "flops", "seconds"):
                setattr(usage, name, getattr(usage, name) + getattr(answer, name))
            if money is not None:
                usage.money = (usage.money or 0.0) + money
                usage.money_now = (usage.money_now or 0.0) + money * now
            how = "forward, counted" if answer.flops else ""
            step.charge(flops=answer.flops, how=how, tokens=tokens, money=money, currency=usage.currency)
        step.facts.setdefault("answers", {})[self.identity] = asdict(usage)


class _Tray:
    """Stores what arrives, and shows how far it is."""

    def __init__(self, generator: Generator, found: dict[bytes, Answer], distinct: dict[bytes, Question]) -> None:
        self.generator, self.found, self.total = generator, found, len(distinct)
        self.options = {key: len(question.options) for key, question in distinct.items()}  # how many log-probabilities are wanted
        self.keys: list[bytes] = []
        self.spent = 0.0

    def put(self, answers: Sequence[tuple[int, Answer]], stored: Callable[[], object] | None = None) -> None:
        if any(len(answer.logprobs) != self.options[self.keys[number]] for number, answer in answers):
            raise UserError(
                "what answers gives no log-probabilities of options", where=self.generator.identity, todo="let it write its answers instead"
            )
        if any(math.isnan(value) for _, answer in answers for value in answer.logprobs):
            raise DataError(
                "the log-probability of an option is no number", where=self.generator.identity, todo="look at the model's weights"
            )
        rows = [(self.keys[number], vars(answer)) for number, answer in answers]
        self.generator.store.put(rows, self.generator.identity, stored)
        for number, answer in answers:
            self.found[self.keys[number]] = answer
            self.spent += self.generator.backend.price(answer) or 0.0

    def report(self, retries: int = 0, note: str = "") -> None:
        usage = self.generator.usage
        usage.retries += retries
        money = f"{self.spent:,.2f} {usage.currency}" if self.spent else ""
        notes = [note, money, f"{usage.retries} tried again" if usage.retries else ""]
        self.generator.step.progress(len(self.found), self.total, "answers", ", ".join(filter(None, notes)))


@contextlib.contextmanager
def opened(answerer: Model | Answerer, step: Context | None = None) -> Iterator[Generator]:
    """What answers, ready to be asked; a bare Model is the local answerer with its defaults."""
    from paredown.engines.local_answers import LocalModel

    step = step or context()
    backend: Backend = LocalModel(answerer) if isinstance(answerer, Model) else answerer.open()
    with contextlib.closing(backend), Store((step.shared or step.scratch) / STORE) as store:
        yield Generator(backend, store, step)


def answer_key(identity: str, question: Question, sampling: Sampling) -> bytes:
    """Hash of all that decides an answer, and of nothing else: seeds ask for no new answer where nothing is drawn.

    Raises:
        DataError: the question holds what is no text.
    """
    import orjson

    drawn = question.sample, sampling.seed, sampling.temperature, sampling.top_p, sampling.top_k
    written = () if question.options else (sampling.max_tokens, sampling.stop, drawn if sampling.temperature > 0 else ())
    try:
        described = orjson.dumps((FORMAT, identity, question.prompt, question.options, written))
    except TypeError as error:
        raise DataError(f"a question cannot be asked: {error}", where=repr(question.prompt)[:200]) from None
    return hashlib.sha256(described).digest()


def messages(prompt: str | tuple[Message, ...]) -> list[dict[str, str]]:
    """A prompt as a chat; a bare text is what the user says."""
    return [{"role": role, "content": content} for role, content in ((("user", prompt),) if isinstance(prompt, str) else prompt)]


def plain_text(prompt: str | tuple[Message, ...]) -> str:
    """A prompt for a model that knows no chat: what was said, one after the other, with an empty line between."""
    return prompt if isinstance(prompt, str) else "\n\n".join(content for _, content in prompt)


def seed_of(question: Question, sampling: Sampling) -> int:
    """63 bits that depend on the drawn question alone, so that it draws the same beside any others."""
    import orjson

    digest = hashlib.sha256(orjson.dumps((sampling.seed, question.prompt, question.sample))).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def cut_at_stop(text: str, stop: Iterable[str]) -> str | None:
    """The text before the first of the stop texts in it; None where there is none."""
    ends = [end for end in (text.find(s) for s in stop if s) if end >= 0]
    return text[: min(ends)] if ends else None
