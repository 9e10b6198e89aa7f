"""Continuing prompts with any language model of transformers: one batched loop over a key-value cache.

Every prompt of a batch ends at the same slot of the cache; what stands before a shorter one is masked and left out of the
positions, so a row's result does not depend on the rows beside it. How prompts get into the cache is a `Prefill`'s. An
encoder-decoder reads the prompts in its encoder and writes the answers in its decoder. `timed_decode` is a loop with a clock and
without anything else in it.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from paredown.engines import prefill
from paredown.engines.encoder_decoders import is_encoder_decoder, prompt_mask
from paredown.engines.flops import Flops
from paredown.engines.scoring import forward_flops

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from paredown.engines.parts import Prefill

Array = np.ndarray[Any, Any]
Choose = Callable[[torch.Tensor, int], torch.Tensor]  # (float32 logits (rows, vocabulary), number of the new token) -> ids (rows,)


@dataclass(frozen=True)
class Timing:
    """Seconds of one run: reading the prompt, and the new tokens after the first one."""

    prefill: float
    decode: float


def greedy(logits: torch.Tensor, _: int) -> torch.Tensor:
    """The likeliest token of each row."""
    return logits.argmax(-1)


Ended = Callable[[int, list[int]], bool]  # (row, its new ids so far) -> whether it ends here


def sampled(uniforms: Array, temperature: float, top_k: int, top_p: float = 1.0) -> Choose:
    """Draw from the tempered distribution over the `top_k` likeliest tokens (0: all), by inverting its cumulative sum.

    Of these only the likeliest ones stay that together have the probability `top_p` (Holtzman et al. 2019, arXiv 1904.09751,
    section 3.1); the token that reaches it stays.

    `uniforms` (rows, new tokens) in [0, 1) are all the randomness, so a row draws the same alone and in any batch.
    """

    def choose(logits: torch.Tensor, number: int) -> torch.Tensor:
        values, ids = torch.sort(logits.double() / temperature, dim=-1, descending=True, stable=True)
        if 0 < top_k < values.shape[-1]:
            values, ids = values[:, :top_k], ids[:, :top_k]
        cumulative = values.softmax(-1).cumsum(-1)
        whole = cumulative[:, -1:]
        if top_p < 1:
            kept = (cumulative < top_p).sum(-1, keepdim=True).clamp(max=cumulative.shape[-1] - 1)
            whole = cumulative.gather(1, kept)
        drawn = torch.from_numpy(uniforms[:, number].copy()).to(cumulative.device)[:, None] * whole
        picked = torch.searchsorted(cumulative, drawn, right=True).clamp(max=values.shape[-1] - 1)
        return ids.gather(1, picked)[:, 0]

    return choose


def stop_tokens(module: PreTrainedModel, tokenizer: Any = None) -> frozenset[int]:
    """Ids that end a text, by the model's generation settings, else its configuration, else the tokenizer."""
    for holder in (getattr(module, "generation_config", None), module.config, tokenizer):
        found = getattr(holder, "eos_token_id", None)
        if found is not None:
            return frozenset(int(i) for i in (found if isinstance(found, (list, tuple)) else [found]))
    return frozenset()


class Stepper:
    """Feeds a model piece by piece and keeps its cache."""

    def __init__(self, module: PreTrainedModel) -> None:
        self.module = module
        accepted = inspect.signature(module.forward).parameters
        self.takes_positions = "position_ids" in accepted
        self.cache_name = "past_key_values" if "past_key_values" in accepted else "cache_params"  # models with a state say so
        self.extra = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self.cache: Any = None

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor | None) -> torch.Tensor:
        """Logits (rows, vocabulary) after the last of `ids`."""
        more: dict[str, Any] = dict(self.extra)
        if mask is not None:
            more["attention_mask"] = mask
        if positions is not None and self.takes_positions:
            more["position_ids"] = positions
        result = self.module(input_ids=ids, use_cache=True, **{self.cache_name: self.cache}, **more)
        self.cache = getattr(result, self.cache_name)
        last: torch.Tensor = result.logits[:, -1]
        return last


class AnswerStepper(Stepper):
    """Feeds an encoder-decoder: the first ids are what its encoder reads, the others what its decoder wrote."""

    def __init__(self, module: PreTrainedModel) -> None:
        super().__init__(module)
        self.read: Any = None
        self.mask: torch.Tensor | None = None

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor | None) -> torch.Tensor:
        if self.read is None:
            encoder: Any = self.module.get_encoder()
            self.mask, self.read = mask, encoder(input_ids=ids, attention_mask=mask)
            ids = ids.new_full((len(ids), 1), int(self.module.config.decoder_start_token_id))
        result: Any = self.module(
            encoder_outputs=self.read, attention_mask=self.mask, decoder_input_ids=ids, past_key_values=self.cache, use_cache=True
        )
        self.cache = result.past_key_values
        last: torch.Tensor = result.logits[:, -1]
        return last


def stepper(module: PreTrainedModel) -> Stepper:
    """What feeds this module."""
    return AnswerStepper(module) if is_encoder_decoder(module) else Stepper(module)


@dataclass(frozen=True)
class Rules:
    """How tokens are written: `choose` picks them, and a row ends with a token of `stop`, which is not kept, or where `ended`
    says so of what was written."""

    new_tokens: int  # at most
    stop: frozenset[int]
    choose: Choose = greedy
    ended: Ended | None = None


def generate(
    module: PreTrainedModel, prompts: Sequence[Sequence[int]], *, new_tokens: int, stop: frozenset[int], choose: Choose = greedy,
    ended: Ended | None = None, how: Prefill | None = None,
) -> list[list[int]]:  # fmt: skip
    """Up to `new_tokens` ids after each prompt (at least one id long), without the id that ended it.

    A row also ends where `ended` says so; the ids that made it say so stay.

    how: which prompts go through the model together; default packed.
    """
    rules = Rules(new_tokens, stop, choose, ended)
    if not prefill.keeps(module):
        return _with_own_cache(module, prompts, rules)
    if how is not None:
        begun = how.begin(module, prompts, new_tokens)
    else:
        begun = prefill.begin(module, prompts, lambda texts: prefill.prepacked(module, texts, keep=True), new_tokens)
    return decode(module, begun, rules)


def decode(module: PreTrainedModel, begun: prefill.Begun, rules: Rules) -> list[list[int]]:
    """The ids after each prompt that was read."""
    mask, width = prefill.mask_of(begun.lengths, rules.new_tokens), max(begun.lengths)
    positions = torch.tensor(begun.lengths)[:, None]

    def advance(ids: torch.Tensor, rows: torch.Tensor, number: int) -> torch.Tensor:
        here = rows.cpu()
        seen = None if mask is None else mask[here, : width + number + 1]
        return prefill.step(module, ids, begun.cache, seen, positions[here] + number)

    return _written(begun.logits, rules, advance, begun.cache.batch_select_indices)


def _with_own_cache(module: PreTrainedModel, prompts: Sequence[Sequence[int]], rules: Rules) -> list[list[int]]:
    """The same, padded, for a model that keeps more of a prompt than keys and values, or reads it both ways: the cache stays its own."""
    where = next(module.parameters()).device
    mask = prefill.mask_of([len(prompt) for prompt in prompts], rules.new_tokens)
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=where)
    present = torch.ones_like(ids) if mask is None else mask[:, :longest].to(where)
    positions = (present.cumsum(1) - 1).clamp(min=0)
    step = stepper(module)

    def advance(ids: torch.Tensor, _: torch.Tensor, number: int) -> torch.Tensor:
        if mask is None:
            return step(ids, None, None)
        return step(ids, mask[:, : longest + number + 1].to(where), positions[:, -1:] + number + 1)

    with torch.inference_mode():
        logits = step(ids, prompt_mask(module, present), None if mask is None else positions)
    return _written(logits, rules, advance)


@torch.inference_mode()
def _written(
    logits: torch.Tensor, rules: Rules, advance: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor],
    select: Callable[[torch.Tensor], None] | None = None,
) -> list[list[int]]:  # fmt: skip
    """The loop: `advance` gives the logits after one more token of the rows that are still computed, and `select` says
    which of these stay; once half of them have ended, the others go on alone."""
    count = len(logits)
    results: list[list[int]] = [[] for _ in range(count)]
    rows = torch.arange(count, device=logits.device)
    alive = [True] * count
    for number in range(rules.new_tokens):
        everything = logits.float()
        if len(rows) < count:
            everything = everything.new_zeros(count, everything.shape[1]).index_copy(0, rows, everything)
        picked = rules.choose(everything, number)
        for row, token in enumerate(picked.tolist()):
            alive[row] = alive[row] and token not in rules.stop
            if alive[row]:
                results[row].append(token)
                alive[row] = rules.ended is None or not rules.ended(row, results[row])
        if number + 1 == rules.new_tokens or not any(alive):
            break
        if select is not None and 2 * sum(alive) <= len(rows):
            kept = torch.tensor([alive[row] for row in rows.tolist()], device=rows.device).nonzero()[:, 0]
            select(kept)
            rows = rows[kept]
        logits = advance(picked[rows][:, None], rows, number)
    return results


class AnswerFlops:
    """FLOPs of reading a prompt and writing an answer with a cache, by their lengths in tokens; `most` bounds both together."""

    def __init__(self, module: PreTrainedModel, most: int) -> None:
        self.module = module
        self.decoder = None if is_encoder_decoder(module) else forward_flops(module, most)
        self.counted = Flops()

    def __call__(self, read: int, wrote: int) -> float:
        total = read + wrote
        if self.decoder is not None:
            linear, squared = self.decoder
            return linear * total + squared * (read**2 + sum(range(read + 1, total + 1)))
        where = next(self.module.parameters()).device
        ids = {name: torch.zeros((1, size), dtype=torch.long, device=where) for name, size in (("read", read), ("made", wrote + 1))}
        key = Flops.shape(ids, "answer")
        with self.counted.counted(key) as counting, torch.inference_mode():
            if counting:
                self.module(input_ids=ids["read"], decoder_input_ids=ids["made"], use_cache=False)
        return float(self.counted.table[key])


@torch.inference_mode()
def timed_decode(module: PreTrainedModel, ids: torch.Tensor, new_tokens: int) -> Timing:
    """Time reading `ids` (rows, length) and decoding `new_tokens` greedily, never stopping early."""
    step = stepper(module)
    _wait(ids)
    start = time.perf_counter()
    token = step(ids, prompt_mask(module, torch.ones_like(ids)), None).argmax(-1, keepdim=True)
    _wait(ids)
    middle = time.perf_counter()
    for _ in range(new_tokens - 1):
        token = step(token, None, None).argmax(-1, keepdim=True)
    _wait(ids)
    return Timing(middle - start, time.perf_counter() - middle)


def _wait(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
