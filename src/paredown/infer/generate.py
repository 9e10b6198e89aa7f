"""Completions of prompts, to look at and to measure on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.tokens import SENTINEL, Tokens
from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.core.strategy import Count, Strategy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

GAP = re.compile(SENTINEL.format(r"\d+"))


class Generate(Strategy):
    """Complete prompts, or the beginnings of held-out documents, greedily or by sampling.

    Source: none (ours); top-k sampling as in Fan et al. 2018, arXiv 1805.04833, section 5.
    Costs: one pass over the prompts and one forward pass for each new token.
    Control: none (it makes samples, not a saving)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-tokens", "speedup-none")
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    prompts: tuple[str, ...] = ()  # texts to complete; where tokens are given too, beginnings of documents come after them
    # token put before each prompt for a model trained on several kinds of denoising, such as [S2S]; auto: the model's own for going
    # on with a text, or for filling gaps where the prompt has one (<extra_id_0>); empty: none
    mode: str = "auto"
    documents: Count = 4  # documents whose beginnings are completed, the same ones for every model
    prompt_tokens: Count = 32  # tokens of a document's beginning, its start mark not counted
    new_tokens: Count = 64  # most tokens of a completion; at most half of the model's context is used for it
    temperature: Annotated[float, Field(ge=0)] = 0.0  # 0 takes the likeliest token; above it a token is drawn from the logits over it
    top_k: Annotated[int, Field(ge=0)] = 0  # draw only from this many likeliest tokens; 0 from all
    batch: Count = 16  # prompts completed at once

    def __call__(self, model: Model, tokens: Tokens | None = None) -> Examples:
        """Columns `prompt`, `completion` and `reference` (how the document went on; null for a given prompt).

        Raises:
            UserError: there is neither a prompt nor a document, the tokens are of another vocabulary, or the mode is no token.
            DataError: no document is longer than `prompt_tokens`.
        """
        import numpy as np
        import polars as pl

        from paredown.engines import encoder_decoders, generation, scoring

        if not self.prompts and tokens is None:
            raise UserError(f"{self.strategy_name()}: nothing to complete", todo="give prompts: [...], or tokens: $tokens.held_out")
        module = scoring.load(model)
        tokenizer = model.tokenizer if tokens is None or (model.path / "tokenizer.json").exists() else tokens.tokenizer.fast
        most = scoring.context_length(module.config)
        new = max(1, min(self.new_tokens, most // 2))
        rows: list[tuple[list[int], str, str | None]] = [(_encode(tokenizer, text), text, None) for text in self.prompts]
        if tokens is not None:
            scoring.check_vocabulary(model, tokens, scoring.vocabulary(module))
            rows += self._beginnings(tokens, tokenizer, new)
        known = encoder_decoders.modes(module)
        before = [self._mode(ids, known, tokenizer) for ids, _, _ in rows]
        kept = [[*mode, *ids[-max(1, most - new - len(mode)) :]] for mode, (ids, _, _) in zip(before, rows, strict=True)]
        stop = generation.stop_tokens(module, tokenizer)
        completions: list[list[int]] = []
        for first in range(0, len(kept), self.batch):
            part = kept[first : first + self.batch]
            choose: generation.Choose = generation.greedy
            if self.temperature > 0:
                uniforms = np.stack([context().generator("sample", first + row).random(new) for row in range(len(part))])
                choose = generation.sampled(uniforms, self.temperature, self.top_k)
            completions += generation.generate(module, part, new_tokens=new, stop=stop, choose=choose)
            context().progress(first + len(part), len(kept), "prompts")
        total = sum(len(ids) + len(made) for ids, made in zip(kept, completions, strict=True))
        context().charge(flops=generation.flops(module, most, kept, completions), how="forward, counted", tokens=total)
        cut = sum(len(k) - len(m) < len(r[0]) for k, m, r in zip(kept, before, rows, strict=True))
        context().facts.update(prompts=len(kept), prompts_cut=cut, new_tokens=new)
        texts = [_decode(tokenizer, ids) for ids in completions]
        frame = pl.DataFrame(
            {"prompt": [r[1] for r in rows], "completion": texts, "reference": [r[2] for r in rows]},
            schema={"prompt": pl.String, "completion": pl.String, "reference": pl.String},
        )
        return Examples.write(context().output("examples"), frame)

    def _mode(self, prompt: list[int], known: dict[str, str], tokenizer: PreTrainedTokenizerFast) -> list[int]:
        """The id that stands before this prompt, or none."""
        gap = _special(tokenizer, SENTINEL.format(0))
        name = known.get("R" if gap is not None and gap in prompt else "S", "") if self.mode == "auto" else self.mode
        if not name:
            return []
        found = _special(tokenizer, name)
        if found is None:
            raise UserError(
                f"the vocabulary has no token {name!r}", where="mode", todo=f"the model knows {', '.join(known.values()) or 'none'}"
            )
        return [found]

    def _beginnings(self, tokens: Tokens, tokenizer: PreTrainedTokenizerFast, new: int) -> list[tuple[list[int], str, str]]:
        from paredown.engines.scoring import spread_order

        found: list[tuple[list[int], str, str]] = []
        offsets = tokens.offsets
        for document in spread_order(len(offsets) - 1):
            first, last = int(offsets[document]), int(offsets[document + 1])
            if last - first - 2 <= self.prompt_tokens:
                continue
            cut = first + 1 + self.prompt_tokens
            ids = tokens.ids[first:cut].tolist()
            reference = tokens.ids[cut : min(cut + new, last - 1)].tolist()
            found.append((ids, _decode(tokenizer, ids), _decode(tokenizer, reference)))
            if len(found) == self.documents:
                break
        if not found:
            raise DataError(
                f"no document is longer than {self.prompt_tokens} tokens", where=str(tokens.path), todo="make prompt_tokens smaller"
            )
        return found


def _encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Ids of a prompt after the mark that begins a text, where the tokenizer has one."""
    ids: list[int] = tokenizer(text)["input_ids"]
    mark = tokenizer.bos_token_id
    if mark is not None and ids[:1] != [mark]:
        ids = [int(mark), *ids]
    if not ids:
        raise UserError(
            "an empty prompt needs a tokenizer with a token that begins a text", todo="give a prompt with at least one character"
        )
    return ids


def _special(tokenizer: PreTrainedTokenizerFast, name: str) -> int | None:
    """The id of a token that the tokenizer knows by this name."""
    found: int | None = tokenizer.get_vocab().get(name)
    return found


def _decode(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    """The text; of special tokens only those that say which gap is filled."""
    special = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    shown = [number for number in ids if number not in special or GAP.fullmatch(special[number])]
    return str(tokenizer.decode(shown, skip_special_tokens=False))
