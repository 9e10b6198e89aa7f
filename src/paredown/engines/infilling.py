"""How well a model says what was taken out of a text: nats of the text alone, example by example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from paredown.core.context import context
from paredown.core.errors import DataError
from paredown.engines.batches import IGNORED
from paredown.engines.denoising import Corrupted, for_decoder, for_encoder_decoder, part_of
from paredown.engines.encoder_decoders import denoising_logits, is_encoder_decoder, pack_examples, reads_both_ways, token_nats
from paredown.engines.flops import Flops

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Judged:
    """What a model says about examples."""

    nats: Array  # (N,) summed over the tokens of text that were taken out
    tokens: Array  # (N,) how many they are
    read: int  # tokens that went through the model
    flops: float


@torch.inference_mode()
def judge(module: torch.nn.Module, found: Corrupted, batch: int, end: int, marks: list[int]) -> Judged:
    """Score examples of the same sizes; `marks` (sentinels) and the last token, `end`, of a target are no text and do not count.

    Raises:
        DataError: the model's loss is not finite.
    """
    where, counted = next(module.parameters()).device, Flops()
    if is_encoder_decoder(module):
        pack_examples(module)
    sums, counts, flops = [], [], 0
    for begin in range(0, len(found.sizes), batch):
        some = part_of(found, slice(begin, begin + batch))
        laid = for_encoder_decoder(some, end, 1) if is_encoder_decoder(module) else for_decoder(some, int(some.read.max()))
        targets = laid["targets"].copy()
        last = (targets != IGNORED).shape[1] - 1 - (targets != IGNORED)[:, ::-1].argmax(1)
        targets[np.arange(len(targets)), last] = IGNORED
        targets[np.isin(targets, marks)] = IGNORED
        moved = {name: torch.from_numpy(value).to(where) for name, value in laid.items()}
        key = Flops.shape(moved, "judge")
        with counted.counted(key):
            logits = denoising_logits(module, moved, prefix=reads_both_ways(module))
        flops += counted.table[key]
        sums.append(token_nats(logits, torch.from_numpy(targets).to(where)).double().sum(1).cpu().numpy())
        counts.append((targets != IGNORED).sum(1))
        context().progress(begin + len(targets), len(found.sizes), "examples")
    nats = np.concatenate(sums)
    if not np.isfinite(nats).all():
        raise DataError("the model's loss is not finite", todo="look at the model's weights: some are NaN or infinite")
    return Judged(nats, np.concatenate(counts), int(found.read.sum()), float(flops))
