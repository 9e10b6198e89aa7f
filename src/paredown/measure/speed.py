"""How fast a model answers on this machine, and how large it is."""

from __future__ import annotations

import statistics
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.core.strategy import Count, Strategy

KERNEL = "dense; zeros are not skipped"


class Speed(Strategy):
    """Measure prefill and decode tokens per second at a stated batch and length, the model's bytes at rest and its parameters.

    Source: none (ours); the median of repeats after a warm-up, own greedy loop over a key-value cache.
    Costs: (warm-up + repeats) times one prompt and its new tokens; wall clock, so the machine should be otherwise idle.
    Control: none (a measurement)
    Not for: comparing runs of different machines or loads; measure all arms in one run.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-weights", "speedup-none")
    extras: ClassVar[tuple[str, ...]] = ("train",)
    metrics: ClassVar[tuple[str, ...]] = ("prefill_tokens_per_second", "decode_tokens_per_second", "bytes_at_rest", "parameters", "nonzero")
    measures_time: ClassVar[bool] = True

    batch: Count = 1  # prompts answered at once
    length: Count | None = None  # tokens of each prompt; default half of the model's context, at most 512
    new_tokens: Annotated[int, Field(ge=2)] | None = None  # tokens decoded after each prompt; default a quarter of the context, at most 64
    repeats: Count = 5  # timed runs, of which the median counts
    warm_up: Annotated[int, Field(ge=0)] = 1  # runs before the clock counts
    precision: Literal["stored", "float32", "bfloat16"] = "stored"  # weights and arithmetic; "stored" as the model's files are

    def __call__(self, model: Model) -> Scores:
        """Rows `prefill_tokens_per_second`, `decode_tokens_per_second`, `bytes_at_rest`, `parameters` and `nonzero`.

        Raises:
            UserError: prompt and new tokens do not fit into the model's context.
        """
        import torch

        from paredown.engines import encoder_decoders, generation, scoring

        module = scoring.load(model, self.precision)
        encoder_decoders.refuse(module, "the speed of reading a prompt and writing after it")
        most = scoring.context_of(module)
        length = self.length or max(1, min(512, most // 2))
        new = self.new_tokens or max(2, min(64, most // 4))
        if length + new > most:
            raise UserError(
                f"a prompt of {length:,} and {new:,} new tokens do not fit: the model's context is {most:,}",
                todo="make length or new_tokens smaller",
            )
        ids = (torch.arange(self.batch * length) * 7919 % scoring.vocabulary(module)).view(self.batch, length).to(scoring.device())
        runs = []
        for number in range(self.warm_up + self.repeats):
            timing = generation.timed_decode(module, ids, new)
            if number >= self.warm_up:
                runs.append(timing)
            context().progress(number + 1, self.warm_up + self.repeats, "runs")
        rates = {
            "prefill": sorted(self.batch * length / run.prefill for run in runs),
            "decode": sorted(self.batch * (new - 1) / run.decode for run in runs),
        }
        linear, squared = scoring.forward_flops(module, most)
        flops = self.batch * (linear * (length + new - 1) + squared * (length**2 + sum(range(length + 1, length + new))))
        made = self.batch * (length + new - 1) * (self.warm_up + self.repeats)
        context().charge(flops=flops * (self.warm_up + self.repeats), how="forward, counted", tokens=made)
        context().facts.update(
            kernel=KERNEL, batch=self.batch, length=length, new_tokens=new, repeats=self.repeats, warm_up=self.warm_up,
            precision=str(next(module.parameters()).dtype).removeprefix("torch."),
            device=scoring.device().type, threads=torch.get_num_threads(),
            **{name: {"min": values[0], "median": statistics.median(values), "max": values[-1]} for name, values in rates.items()},
        )  # fmt: skip
        subject, count = model.identity, model.parameters()
        scores = [
            Score(
                subject=subject,
                metric=f"{name}_tokens_per_second",
                value=statistics.median(values),
                unit="tokens/s",
                n=self.repeats,
                better="higher",
            )
            for name, values in rates.items()
        ]
        weights = sum((model.path / name).stat().st_size for name in set(model.weight_files.values()))
        scores.append(Score(subject=subject, metric="bytes_at_rest", value=float(weights), unit="bytes"))
        scores += [
            Score(subject=subject, metric=name, value=float(count[key]), unit="weights")
            for name, key in (("parameters", "total"), ("nonzero", "nonzero"))
        ]
        return Scores.write(context().output("scores"), scores)
