"""How long a batch of prompts takes to its first new token, in two ways that take turns."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.artifacts.tokens import Tokens
from paredown.core.catalog import build
from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.core.strategy import Count, Positive, Strategy
from paredown.engines.parts import Prefill

if TYPE_CHECKING:
    import numpy

    from paredown.engines.prefill_runs import Pair


def prompt_lengths(generator: numpy.random.Generator, count: int, median: float, spread: float, longest: int) -> list[int]:
    """Lengths whose logarithms are normal: half of them below `median`, `spread` their standard deviation; 1 to `longest`."""
    import numpy as np

    drawn = median * np.exp(spread * generator.normal(size=count))
    return [int(length) for length in np.clip(np.round(drawn), 1, longest)]


class FirstToken(Strategy):
    """Measure how much sooner prompts of different lengths get their first new token than another way of reading them gives it.

    Both ways read the same prompts in turn, and ratios are taken within a turn, so that a busy machine slows both. Inside the
    clock: packing, masks, the forward passes, cutting keys and values back to each prompt, and choosing the token.

    Source: none (ours); time to first token and prefill time as in Zhao et al. 2024, arXiv 2404.09529, section 4.
    Costs: (warm-up + repeats) times both ways for every batch, and some new tokens; wall clock.
    Control: none (a measurement)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-tokens", "speedup-none", "needs-data")
    systems: ClassVar[tuple[int, ...]] = (8,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True
    measures_time: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = (
        "speedup", "expected_speedup", "share_of_expected", "slowest_speedup", "seconds", "tokens_computed", "logit_difference", "differing",
        "decode_seconds",
    )  # fmt: skip

    prefill: Prefill = Field(default_factory=lambda: build("infer.prepack"))  # how the prompts are read
    against: Prefill = Field(default_factory=lambda: build("infer.pad_batch"))  # the way that it is compared with
    batches: Count = 4  # sets of prompts
    prompts: Count = 32  # prompts of a set: stretches of documents
    median: Positive = 60.0  # tokens that half of the prompts do not reach; lengths are lognormal
    spread: Annotated[float, Field(ge=0)] = 0.9  # standard deviation of the logarithms of the lengths; 0 makes all equal
    longest: Count = 512  # tokens at which prompts are cut
    new_tokens: Annotated[int, Field(ge=2)] = 16  # tokens decoded greedily, to compare
    repeats: Count = 2  # timed turns for every set
    warm_up: Annotated[int, Field(ge=0)] = 1  # turns before the clock counts, once
    precision: Literal["stored", "float32", "bfloat16"] = "stored"  # weights and arithmetic; "stored" as the model's files are

    def __call__(self, model: Model, tokens: Tokens) -> Scores:
        """Rows as in `metrics`: ratios of seconds (against / prefill), of tokens that went through the model, the first over the second,
        the least ratio of any turn; seconds to the first token of a set; the largest difference of a logit and the prompts whose greedy
        tokens differ; seconds of the further tokens.

        Raises:
            UserError: prompts and new tokens do not fit into the model, or the tokens are of another vocabulary.
            DataError: no document is as long as a prompt.
        """
        from paredown.engines import prefill_runs, scoring

        module = scoring.load(model, self.precision)
        most = scoring.context_of(module)
        if self.longest + self.new_tokens > most:
            raise UserError(
                f"prompts of {self.longest:,} and {self.new_tokens:,} new tokens do not fit: the model's context is {most:,}",
                todo="make longest or new_tokens smaller",
            )
        scoring.check_vocabulary(model, tokens, scoring.vocabulary(module))
        sets = self._sets(tokens)
        pairs: list[Pair] = []
        for number, prompts in enumerate(sets):
            pairs.append(
                prefill_runs.compared(
                    module, prompts, self.prefill, self.against, repeats=self.repeats, warm_up=0 if number else self.warm_up,
                    new_tokens=self.new_tokens,
                )
            )  # fmt: skip
            context().progress(number + 1, len(sets), "sets")
        turns = [against / own for pair in pairs for own, against in pair.seconds]
        computed, computed_against = (sum(pair.computed[side] for pair in pairs) for side in (0, 1))
        expected = computed_against / computed
        found = {
            "speedup": (statistics.median(turns), "times", "higher"),
            "expected_speedup": (expected, "times", "higher"),
            "share_of_expected": (statistics.median(turns) / expected, "", "higher"),
            "slowest_speedup": (min(turns), "times", "higher"),
            "seconds": (statistics.median(own for pair in pairs for own, _ in pair.seconds), "s/set", "lower"),
            "tokens_computed": (computed / len(sets), "tokens/set", "lower"),
            "logit_difference": (max(pair.logit_difference for pair in pairs), "", "lower"),
            "differing": (float(sum(pair.differing for pair in pairs)), "prompts", "lower"),
            "decode_seconds": (statistics.median(pair.decode_seconds for pair in pairs), "s/set", "lower"),
        }
        self._account(module, most, sets, pairs)
        rows = [
            Score.model_validate(
                {"subject": model.identity, "metric": name, "value": value, "unit": unit, "better": better, "n": len(turns)}
            )
            for name, (value, unit, better) in found.items()
        ]
        return Scores.write(context().output("scores"), rows)

    def _sets(self, tokens: Tokens) -> list[list[list[int]]]:
        """Sets of prompts: stretches of documents from random places, as long as the lengths drawn. They begin with nothing in common."""
        import numpy as np

        generator = context().generator("prompts")
        sizes = np.diff(tokens.offsets)
        sets = []
        for _ in range(self.batches):
            lengths = prompt_lengths(generator, self.prompts, self.median, self.spread, self.longest)
            prompts = []
            for length in lengths:
                enough = np.flatnonzero(sizes >= length)
                if not len(enough):
                    raise DataError(f"no document has {length:,} tokens", where=str(tokens.path), todo="make longest smaller")
                document = int(generator.choice(enough))
                first = int(tokens.offsets[document]) + int(generator.integers(sizes[document] - length + 1))
                prompts.append(tokens.ids[first : first + length].tolist())
            sets.append(prompts)
        return sets

    def _account(self, module: Any, most: int, sets: list[list[list[int]]], pairs: list[Pair]) -> None:
        from paredown.engines import generation, scoring

        flops = generation.AnswerFlops(module, most)
        runs = self.repeats + 1
        total = sum(flops(len(prompt), self.new_tokens) for prompts in sets for prompt in prompts)
        context().charge(flops=2 * runs * total, how="forward, counted", tokens=runs * sum(sum(pair.computed) for pair in pairs))
        context().facts.update(
            device=scoring.device().type, precision=str(next(module.parameters()).dtype).removeprefix("torch."),
            prefill=self.prefill.spec(), against=self.against.spec(),
            lengths=[sorted(len(prompt) for prompt in prompts) for prompts in sets],
            seconds=[pair.seconds for pair in pairs],
        )  # fmt: skip
