"""A model of this machine as what answers: prompts in batches, greedy or sampled decoding, log-probabilities of given options.

Batches are cut from the front of one order, and a batch is stored whole: a killed run that goes on cuts the rest at the
same places, so every answer is what it would have been.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import SENTINEL
from paredown.core.artifact import MANIFEST, sha256
from paredown.core.errors import UserError
from paredown.engines.generator import Answer, Question, Sampling, Tray, cut_at_stop, messages, plain_text, seed_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from paredown.engines.generation import AnswerFlops
    from paredown.engines.option_scores import Options
    from paredown.engines.parts import Prefill
    from paredown.engines.prefill import Reading, Text

BATCH_TOKENS = 4096
GAP = re.compile(SENTINEL.format(r"\d+"))
MARGIN = 8  # tokens before a stop text's own that may share a character with it


class LocalModel:
    """The backend; its weights are loaded when the first question comes that has no stored answer."""

    currency = ""

    def __init__(
        self,
        model: Model,
        *,
        batch_tokens: int = BATCH_TOKENS,
        precision: str = "stored",
        mode: str = "auto",
        prefill: Prefill | None = None,
    ) -> None:
        self.model = model
        self.prefill = prefill  # how prompts are read together
        self.mode = mode
        self.batch_tokens = batch_tokens  # padded tokens of a batch, new ones too; a single prompt may be longer
        self.precision = precision

    @cached_property
    def identity(self) -> str:
        """The hash of the model's files, and the arithmetic."""
        return f"local {content_hash(self.model)[:32]} {self.precision} {self.mode}".rstrip()

    def price(self, answer: Answer) -> float | None:
        return None

    def close(self) -> None:
        for name in ("module", "tokenizer", "flops", "modes"):
            self.__dict__.pop(name, None)

    @cached_property
    def module(self) -> PreTrainedModel:
        from paredown.engines import scoring

        module = scoring.load(self.model, self.precision)
        if not hasattr(module, "get_input_embeddings") or not hasattr(module, "config"):
            raise UserError(f"{type(module).__name__} is no language model: it cannot answer questions", where=str(self.model.path))
        return module

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        if not (self.model.path / "tokenizer_config.json").exists() and not (self.model.path / "tokenizer.json").exists():
            raise UserError("the model has no tokenizer, so it cannot read a question", where=str(self.model.path))
        return self.model.tokenizer

    @cached_property
    def flops(self) -> AnswerFlops:
        """Of reading and writing so many tokens."""
        from paredown.engines.generation import AnswerFlops

        return AnswerFlops(self.module, self.context)

    @cached_property
    def modes(self) -> dict[str, str]:
        from paredown.engines import encoder_decoders

        return encoder_decoders.modes(self.module)

    @cached_property
    def context(self) -> int:
        """Most tokens that the model reads and writes together."""
        from paredown.engines import scoring

        return scoring.context_length(self.module.config)

    def ask(self, questions: Sequence[Question], sampling: Sampling, tray: Tray) -> None:
        scored = [number for number, question in enumerate(questions) if question.options]
        written = [number for number, question in enumerate(questions) if not question.options]
        self._write([(number, questions[number]) for number in written], sampling, tray)
        self._score([(number, questions[number]) for number in scored], tray)

    def encode(self, prompt: str | tuple[tuple[str, str], ...]) -> list[int]:
        """Ids of a prompt after the mark that begins a text, where the tokenizer has one.

        Raises:
            UserError: there is not a single token.
        """
        tokenizer: Any = self.tokenizer
        if not isinstance(prompt, str) and tokenizer.chat_template:
            text = tokenizer.apply_chat_template(messages(prompt), tokenize=False, add_generation_prompt=True)
            return list(tokenizer(text, add_special_tokens=False)["input_ids"])
        ids: list[int] = tokenizer(plain_text(prompt))["input_ids"]
        mark = tokenizer.bos_token_id
        if mark is not None and ids[:1] != [mark]:
            ids = [int(mark), *ids]
        if not ids:
            raise UserError(
                "an empty prompt needs a tokenizer with a token that begins a text", todo="give a prompt with at least one character"
            )
        return ids

    def _batches(self, sizes: Sequence[int]) -> Iterator[list[int]]:
        """Places in batches, longest first, each as wide as its first; the rest is cut the same way whatever went before."""
        order = sorted(range(len(sizes)), key=lambda place: -sizes[place])
        while order:
            many = max(1, self.batch_tokens // sizes[order[0]])
            yield order[:many]
            order = order[many:]

    def _write(self, asked: list[tuple[int, Question]], sampling: Sampling, tray: Tray) -> None:
        if not asked:
            return
        import numpy as np

        from paredown.engines import generation

        new = max(1, min(sampling.max_tokens, self.context // 2))
        whole = [self.encode(question.prompt) for _, question in asked]
        before = [self._mode(ids) for ids in whole]
        kept = [[*mode, *ids[-max(1, self.context - new - len(mode)) :]] for mode, ids in zip(before, whole, strict=True)]
        stop = generation.stop_tokens(self.module, self.tokenizer)
        longest = max((len(text.encode()) for text in sampling.stop), default=0) + MARGIN

        def ended(_: int, ids: list[int]) -> bool:
            return cut_at_stop(self._decode(ids[-longest:]), sampling.stop) is not None

        for places in self._batches([len(ids) + new for ids in kept]):
            begun = time.perf_counter()
            choose: generation.Choose = generation.greedy
            if sampling.temperature > 0:
                uniforms = np.stack([np.random.default_rng(seed_of(asked[place][1], sampling)).random(new) for place in places])
                choose = generation.sampled(uniforms, sampling.temperature, sampling.top_k, sampling.top_p)
            made = generation.generate(
                self.module, [kept[p] for p in places], new_tokens=new, stop=stop, choose=choose, ended=ended if sampling.stop else None,
                how=self.prefill,
            )  # fmt: skip
            seconds = (time.perf_counter() - begun) / len(places)
            answers = []
            for place, ids in zip(places, made, strict=True):
                text = self._decode(ids)
                cut = cut_at_stop(text, sampling.stop)
                answer = Answer(
                    text=text if cut is None else cut,
                    prompt_tokens=len(kept[place]),
                    completion_tokens=len(ids),
                    finish="length" if cut is None and len(ids) == new else "stop",
                    seconds=seconds,
                    flops=self.flops(len(kept[place]), len(ids)),
                    cut_tokens=len(before[place]) + len(whole[place]) - len(kept[place]),
                )
                answers.append((asked[place][0], answer))
            tray.put(answers)
            tray.report()

    def _score(self, asked: list[tuple[int, Question]], tray: Tray) -> None:
        if not asked:
            return
        from paredown.engines import encoder_decoders, option_scores

        encoder_decoders.refuse(self.module, "the log-probability of an option")
        both_ways = encoder_decoders.reads_both_ways(self.module)
        prepared = [self._options(question) for _, question in asked]
        stretches = [options.stretches(both_ways) for options, _ in prepared]
        computed = [sum(end - first for first, end in each) for each in stretches]
        for places in self._in_order(computed):
            begun = time.perf_counter()
            scores = option_scores.log_probabilities(self.module, [prepared[place][0] for place in places], self._read)
            seconds = (time.perf_counter() - begun) / len(places)
            answers = []
            for place, logprobs in zip(places, scores, strict=True):
                options, cut = prepared[place]
                read = sum(len(row) - 1 for row in options.rows)
                answer = Answer(
                    logprobs=logprobs,
                    option_tokens=tuple(len(row) - options.start for row in options.rows),
                    prompt_tokens=read,
                    cached_tokens=read - computed[place],
                    seconds=seconds,
                    flops=sum(self.flops(end, 0) - self.flops(first, 0) for first, end in stretches[place]),
                    cut_tokens=cut,
                )
                answers.append((asked[place][0], answer))
            tray.put(answers)
            tray.report()

    def _options(self, question: Question) -> tuple[Options, int]:
        """The rows that are read for a question, and how many tokens of its prompt's beginning did not fit.

        Raises:
            UserError: nothing stands before the options, or one of them is longer than the model's context.
        """
        from paredown.engines.option_scores import Options

        prompt = self.encode(question.prompt)
        mode = self._mode(prompt)
        rows = [self._joined(question.prompt, option) for option in question.options]
        start = min(shared(prompt, *rows), *(len(row) - 1 for row in rows))  # the first id that differs between the options, or is theirs
        if start < 1:
            raise UserError("nothing stands before the options", where=repr(question.options), todo="give a prompt")
        cut = max(0, max(map(len, rows)) + len(mode) - (self.context + 1))  # the last id is only predicted
        if cut >= start:
            raise UserError(f"an option is longer than the model's context of {self.context:,} tokens", where=repr(question.options)[:200])
        return Options([[*mode, *row[cut:]] for row in rows], start - cut + len(mode)), cut

    def _in_order(self, sizes: Sequence[int]) -> Iterator[list[int]]:
        """Places in the order asked, in batches; the rest is cut the same way whatever went before."""
        batch: list[int] = []
        for place, size in enumerate(sizes):
            if batch and sum(sizes[each] for each in batch) + size > self.batch_tokens:
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    def _read(self, module: Any, texts: Sequence[Text]) -> Iterator[Reading]:
        from paredown.engines import prefill

        return self.prefill.read(module, texts) if self.prefill is not None else prefill.prepacked(module, texts)

    def _joined(self, prompt: str | tuple[tuple[str, str], ...], option: str) -> list[int]:
        """Ids of the prompt with the option behind it; what a chat says is not cut into tokens anew."""
        if isinstance(prompt, str) or not self.tokenizer.chat_template:
            return self.encode(plain_text(prompt) + option)
        return self.encode(prompt) + list(self.tokenizer(option, add_special_tokens=False)["input_ids"])

    def _decode(self, ids: list[int]) -> str:
        """The text; of special tokens only those that say which gap is filled."""
        special = {number: token.content for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        shown = [number for number in ids if number not in special or GAP.fullmatch(special[number])]
        return str(self.tokenizer.decode(shown, skip_special_tokens=False))

    def _mode(self, prompt: Sequence[int]) -> list[int]:
        """The id that stands before this prompt, or none: the token of the kind of denoising that the model was trained on."""
        known = self.tokenizer.get_vocab()
        gap = known.get(SENTINEL.format(0))
        name = self.modes.get("R" if gap is not None and gap in prompt else "S", "") if self.mode == "auto" else self.mode
        if name and name not in known:
            raise UserError(
                f"the vocabulary has no token {name!r}", where="mode", todo=f"the model knows {', '.join(self.modes.values()) or 'none'}"
            )
        return [known[name]] if name else []


def shared(first: Sequence[int], *others: Sequence[int]) -> int:
    """How many ids at the beginning all have in common."""
    for place, ids in enumerate(zip(first, *others, strict=False)):
        if len(set(ids)) > 1:
            return place
    return min(map(len, (first, *others)))


def content_hash(model: Model) -> str:
    """Hash of a model's files: the one under which it was sealed, or, where it was not, of the files as they are."""
    manifest = model.path / MANIFEST
    if manifest.exists():
        return str(model.read_json(MANIFEST)["hash"])
    digest = hashlib.sha256()
    for path in sorted(p for p in model.path.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(model.path).as_posix()}\0{sha256(path)}\n".encode())
    return digest.hexdigest()
