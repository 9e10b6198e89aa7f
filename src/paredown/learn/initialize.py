"""A model that has learned nothing yet."""

from __future__ import annotations

import shutil
from typing import Annotated, Any, ClassVar

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.core.strategy import Strategy
from paredown.engines.parts import Architecture

GENERATION = "generation_config.json"


class Initialize(Strategy):
    """Draw fresh random weights for an architecture, or for a model of the same shape as one that exists.

    From an architecture, variant 0 starts exactly as learn.train does at the same seed, so that a training can be gone back
    on. From a model, such as a pruned one, the shape and the tokenizer are kept and every weight is drawn anew, as the
    architecture draws them: the start of the scratch control of what a pruner found. No two models give the same draw.

    Source: none (ours); the control is Scratch-E and Scratch-B of Liu et al. 2018, arXiv 1810.05270, section 3.
    Costs: one random number per weight; memory of the whole model.
    Control: none (it is the start of a control)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-weights", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (27, 41)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    variant: Annotated[int, Field(ge=0)] = 0  # another number draws other weights from the same seed

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import estimates

        tokens = inputs.get("tokens")
        known = tokens.vocab_size if isinstance(tokens, Tokens) else int((tokens or {}).get("vocab_size", 0))
        weights = estimates.weights(inputs.get("model"), known)
        return {"seconds": weights / 5e7, "memory": 8e8 + 8 * weights, "disk": 4 * weights, "parameters": weights}

    def __call__(self, model: Architecture | Model, tokens: Tokens | None = None) -> Model:
        """The model with its tokenizer: the given model's, or that of the tokens.

        Raises:
            UserError: an architecture needs the vocabulary of tokens and there are none, or config.json does not fit the weights.
        """
        from paredown.engines import modules

        step = context()
        variant = (self.variant,) if self.variant else ()
        if isinstance(model, Model):
            module = modules.reinitialized(model, step.derived_seed("initialize", model.identity, *variant))
            made = Model.save(step.output("model"), module, model)
            if (model.path / GENERATION).exists():
                shutil.copyfile(model.file(GENERATION), made.path / GENERATION)
            return made
        if tokens is None and model.parameters(1) != model.parameters(0):
            raise UserError(f"{model.strategy_name()} needs to know a vocabulary", where="tokens", todo="give the input tokens")
        module = modules.initialized(model, tokens, step.derived_seed("train", *variant))
        return Model.save(step.output("model"), module, tokens.tokenizer.fast if tokens is not None else None)
