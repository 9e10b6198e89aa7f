"""Log-probabilities of options as continuations of a prompt: what all options of a question begin with is read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from paredown.engines import encoder_decoders
from paredown.engines.prefill import SHARE, Reading, Text
from paredown.engines.prefixes import forest


@dataclass(frozen=True)
class Options:
    """A question: rows of prompt and option, and the place of the first id that is scored."""

    rows: list[list[int]]
    start: int

    def stretches(self, both_ways: bool) -> list[tuple[int, int]]:
        """(first, end) of the stretches of tokens that are computed; the last id of a row is only predicted."""
        inputs = [row[:-1] for row in self.rows]
        if both_ways:  # what comes after the prompt changes nothing in it, but the model is read row by row
            return [(0, len(ids)) for ids in inputs]
        return [(each.start, each.end) for root in forest(inputs, SHARE) for each in root.walk()]


def log_probabilities(module: Any, asked: Sequence[Options], read: Callable[..., Iterable[Reading]]) -> list[tuple[float, ...]]:
    """Natural log-probability of each option of each question, summed over its tokens.

    read: what goes through the model together, as `Prefill.read` does.
    """
    if encoder_decoders.reads_both_ways(module):
        return [_both_ways(module, options) for options in asked]
    texts = [Text(row[:-1], range(options.start - 1, len(row) - 1)) for options in asked for row in options.rows]
    targets = [torch.tensor(row[options.start :]) for options in asked for row in options.rows]
    sums = [0.0] * len(texts)
    for reading in read(module, texts):
        wanted = torch.cat([targets[text] for text in reading.texts]).to(reading.logits.device)
        said = reading.logits.float().log_softmax(-1).gather(1, wanted[:, None])[:, 0].double().cpu()
        for text, values in zip(reading.texts, torch.split(said, [len(targets[text]) for text in reading.texts]), strict=True):
            sums[text] = float(values.sum())
    found = iter(sums)
    return [tuple(next(found) for _ in options.rows) for options in asked]


def _both_ways(module: Any, options: Options) -> tuple[float, ...]:
    """Of a decoder that sees all of the prompt at each of its tokens: rows padded on the right, with a mask for the prompt."""
    where = next(module.parameters()).device
    width = max(map(len, options.rows)) - 1
    ids = torch.zeros((len(options.rows), width), dtype=torch.long)
    for place, row in enumerate(options.rows):
        ids[place, : len(row) - 1] = torch.tensor(row[:-1])
    prefix = torch.full((len(ids),), options.start, device=where)
    with torch.inference_mode():
        logits = encoder_decoders.decoder_logits(module, ids.to(where), prefix)
    scores = []
    for place, row in enumerate(options.rows):
        said = logits[place, options.start - 1 : len(row) - 1].float().log_softmax(-1)
        wanted = torch.tensor(row[options.start :], device=where)
        scores.append(float(said.gather(1, wanted[:, None]).double().sum()))
    return tuple(scores)
