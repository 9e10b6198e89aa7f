"""How well a model fills gaps and goes on with texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.artifacts.tokens import Tokens
from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.core.strategy import Count, Strategy

if TYPE_CHECKING:
    from paredown.engines.denoising import Corrupted

LONG = 32  # tokens of the long gap
INFILL = (3.0, 0.15)  # mean span and share of the short gaps


class Denoising(Strategy):
    """Measure the loss on three held-out tasks: many short gaps, the second half of a text, and one gap of 32 tokens.

    Every model gets the same chunks with the same gaps. Only text counts: sentinels and the mark of the end are read, not scored, so
    that a model which never saw them is asked for the same tokens.

    Source: none (ours); the tasks are the R, S and X denoising of Tay et al. 2022, arXiv 2205.05131, section 3.1.
    Costs: three forward passes over the chunks.
    Control: none (a measurement)
    Not for: comparing models of different tokenizers.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-weights", "speedup-none", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (74,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    metrics: ClassVar[tuple[str, ...]] = ("infill", "continuation", "long_infill", "worst")

    chunks: Count = 256  # chunks of text, the same ones for every model
    length: Annotated[int, Field(ge=40)] = 96  # tokens of a chunk
    infill_mode: str = "auto"  # token put first, such as [NLU]; auto: the one that the model was trained with for it; empty: none
    continuation_mode: str = "auto"  # the same for the second half of a text
    long_infill_mode: str = "auto"  # the same for the long gap
    continuation: Literal["prefix", "gap"] = "prefix"  # gap: a sentinel at the end asks for the rest, for models that only know gaps
    batch: Count = 32  # chunks of a forward pass; the scores do not depend on it but for rounding

    def __call__(self, model: Model, tokens: Tokens) -> Scores:
        """Rows `infill`, `continuation` and `long_infill` in nats a token, their items the chunks, and `worst`, the highest of them.

        Raises:
            UserError: the vocabulary lacks sentinels or a mode token, is another one than the model's, or a chunk does not fit.
            DataError: the tokens are fewer than a chunk, or the loss is not finite.
        """
        import numpy as np
        import polars as pl

        from paredown.engines import denoising, encoder_decoders, infilling, scoring

        module = scoring.load(model, "float32")
        scoring.check_vocabulary(model, tokens, scoring.vocabulary(module))
        denoising.check_all_learnt(tokens)
        marks = tokens.tokenizer.sentinels()
        denoising.check_sentinels(marks, denoising.spans(self.length, *INFILL)[1])
        numbers = scoring.spread_order(tokens.tokens // self.length)[: self.chunks]
        if not len(numbers):
            raise DataError(f"{tokens.tokens:,} tokens are less than a chunk of {self.length}", where=str(tokens.path))
        texts = tokens.ids[numbers[:, None] * self.length + np.arange(self.length)].astype(np.int64)
        known, scores, items, worst, total = encoder_decoders.modes(module), [], [], 0.0, 0.0
        for metric, (family, found) in self._tasks(texts, tokens, known).items():
            most = scoring.context_of(module)
            if int(found.read.max()) > most and not encoder_decoders.is_encoder_decoder(module):
                raise UserError(f"chunks of {self.length} tokens do not fit: the model's context is {most:,}", todo="make length smaller")
            judged = infilling.judge(module, found, self.batch, tokens.end_of_text, marks)
            context().charge(flops=judged.flops, how="forward, counted", tokens=judged.read, documents=len(numbers))
            context().facts[metric] = {"mode": family, "text_tokens": int(judged.tokens.sum())}
            value = float(judged.nats.sum() / judged.tokens.sum())
            worst, total = max(worst, value), total + judged.flops
            scores.append(self._score(model, metric, value, len(numbers), judged.flops))
            columns = {"item": numbers.astype("int64"), "value": judged.nats / judged.tokens, "weight": judged.tokens.astype("float64")}
            items.append(pl.DataFrame({"metric": [metric] * len(numbers), **columns}))
        scores.append(self._score(model, "worst", worst, len(numbers), total))
        return Scores.write(context().output("scores"), scores, pl.concat(items))

    def _score(self, model: Model, metric: str, value: float, n: int, flops: float) -> Score:
        return Score(subject=model.identity, metric=metric, value=value, unit="nats/token", n=n, flops=flops)

    def _tasks(self, texts: Any, tokens: Tokens, known: dict[str, str]) -> dict[str, tuple[str, Corrupted]]:
        """The mode token and the examples of each task."""
        import numpy as np

        from paredown.engines import denoising

        draw, count, marks = np.random.default_rng(0), len(texts), tokens.tokenizer.sentinels()
        short = denoising.spans(self.length, *INFILL)
        gaps = np.stack([denoising.span_bounds(self.length, *short, draw.random(self.length)) for _ in range(count)])
        begins = draw.integers(1, self.length - LONG, count)
        rest = np.broadcast_to(np.array([[self.length // 2, self.length]]), (count, 1, 2))
        tasks = {
            "infill": ("R", self.infill_mode, gaps, marks),
            "continuation": ("S", self.continuation_mode, rest, marks if self.continuation == "gap" else []),
            "long_infill": ("X", self.long_infill_mode, np.stack([begins, begins + LONG], axis=1)[:, None, :], marks),
        }
        found = {}
        for metric, (family, given, bounds, sentinels) in tasks.items():
            name = known.get(family, "") if given == "auto" else given
            mode = tokens.tokenizer.special_id(name) if name else -1
            found[metric] = (name, denoising.posed(texts, bounds, sentinels, mode, tokens.end_of_text))
        return found
