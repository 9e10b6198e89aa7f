"""A model of this machine as what answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.core.catalog import build
from paredown.core.strategy import Count
from paredown.engines.parts import Answerer, Prefill

if TYPE_CHECKING:
    from paredown.engines.generator import Backend


class Local(Answerer):
    """Answer with a model of this machine, in batches; a bare model where an answerer belongs is this with its defaults.

    A chat is written as the tokenizer's template says; without one, what was said stands one after the other.

    Source: none (ours).
    Costs: one pass over each prompt and one forward pass for each new token; counted in FLOPs.
    Control: none (it answers, and saves nothing)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-runtime", "what-tokens", "speedup-none")
    extras: ClassVar[tuple[str, ...]] = ("train",)

    model: Model  # what answers
    prefill: Prefill = Field(default_factory=lambda: build("infer.prepack"))  # how prompts of different lengths are read together
    batch_tokens: Count = 4096  # tokens of the prompts and answers that are worked on at once, padding counted
    precision: Literal["float32", "bfloat16", "stored"] = "stored"  # weights and arithmetic; "stored" as the model's files are
    # token put before each prompt for a model trained on several kinds of denoising, such as [S2S]; auto: the model's own for going
    # on with a text, or for filling gaps where the prompt has one (<extra_id_0>); empty: none
    mode: str = "auto"

    def open(self) -> Backend:
        from paredown.engines.local_answers import LocalModel

        return LocalModel(self.model, batch_tokens=self.batch_tokens, precision=self.precision, mode=self.mode, prefill=self.prefill)
