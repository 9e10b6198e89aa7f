"""Completions of prompts, to look at and to measure on."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, ClassVar

from pydantic import Field

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.core.strategy import Count, Strategy
from paredown.engines.parts import Answerer

DIVIDED = "\ufffd"  # what a decoder writes for a part of a character


class Generate(Strategy):
    """Complete prompts, or the beginnings of held-out documents, greedily or by sampling.

    Source: none (ours); top-k sampling as in Fan et al. 2018, arXiv 1805.04833, section 5.
    Costs: one pass over the prompts and one forward pass for each new token; of a server, what it takes for them.
    Control: none (it makes samples, not a saving)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-tokens", "speedup-none")
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    prompts: tuple[str, ...] = ()  # texts to complete; where tokens are given too, beginnings of documents come after them
    documents: Count = 4  # documents whose beginnings are completed, the same ones for every model
    prompt_tokens: Count = 32  # tokens of a document's beginning, its start mark not counted
    new_tokens: Count = 64  # most tokens of a completion; at most half of the model's context is used for it
    temperature: Annotated[float, Field(ge=0)] = 0.0  # 0 takes the likeliest token; above it a token is drawn from the logits over it
    top_k: Annotated[int, Field(ge=0)] = 0  # draw only from this many likeliest tokens; 0 from all

    def __call__(self, answerer: Model | Answerer, tokens: Tokens | None = None) -> Examples:
        """Columns `prompt`, `completion` and `reference` (how the document went on; null for a given prompt).

        Raises:
            UserError: there is neither a prompt nor a document.
            DataError: no document is longer than `prompt_tokens`.
        """
        import polars as pl

        from paredown.engines.generator import Question, Sampling, opened

        if not self.prompts and tokens is None:
            raise UserError(f"{self.strategy_name()}: nothing to complete", todo="give prompts: [...], or tokens: $tokens.held_out")
        rows: list[tuple[str, str | None]] = [(text, None) for text in self.prompts]
        if tokens is not None:
            rows += self._beginnings(tokens)
        seed = context().derived_seed("sample") if self.temperature > 0 else 0
        sampling = Sampling(self.new_tokens, self.temperature, top_k=self.top_k, seed=seed)
        before: Counter[str] = Counter()
        questions = []
        for prompt, _ in rows:  # the same prompt again is another draw
            questions.append(Question(prompt, sample=before[prompt]))
            before[prompt] += 1
        with opened(answerer) as generator:
            answers = generator.answer(questions, sampling)
        context().facts.update(prompts=len(rows), prompts_cut=sum(answer.cut_tokens > 0 for answer in answers))
        frame = pl.DataFrame(
            {"prompt": [r[0] for r in rows], "completion": [answer.text for answer in answers], "reference": [r[1] for r in rows]},
            schema={"prompt": pl.String, "completion": pl.String, "reference": pl.String},
        )
        return Examples.write(context().output("examples"), frame)

    def _beginnings(self, tokens: Tokens) -> list[tuple[str, str]]:
        """Beginnings of documents, and how they went on; a character that the cut divides belongs to neither."""
        from paredown.engines.scoring import spread_order

        found: list[tuple[str, str]] = []
        offsets, tokenizer = tokens.offsets, tokens.tokenizer.fast
        for document in spread_order(len(offsets) - 1):
            first, last = int(offsets[document]), int(offsets[document + 1])
            if last - first - 2 <= self.prompt_tokens:
                continue
            cut = first + 1 + self.prompt_tokens
            prompt, reference = (
                str(tokenizer.decode(ids.tolist(), skip_special_tokens=True))
                for ids in (tokens.ids[first:cut], tokens.ids[cut : min(cut + self.new_tokens, last - 1)])
            )
            found.append((prompt.rstrip(DIVIDED), reference.lstrip(DIVIDED)))
            if len(found) == self.documents:
                break
        if not found:
            raise DataError(
                f"no document is longer than {self.prompt_tokens} tokens", where=str(tokens.path), todo="make prompt_tokens smaller"
            )
        return found
