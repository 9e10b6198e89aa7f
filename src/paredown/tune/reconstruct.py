"""Healing block by block towards what the unpruned model gives."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.catalog import build
from paredown.core.strategy import Count, Positive, Share, Strategy
from paredown.engines.parts import Budget, Hook, Optimizer, Schedule

REPORT = "reconstruction.json"


class Reconstruct(Strategy):
    """Train each block of a pruned model, one after the other, to give what the same block of the unpruned model gives on the same inputs.

    Inputs are what the blocks before it give after their own training; the loss is the mean squared error of the block's outputs on some
    calibration tokens. What trains is up to the hooks: `tune.perp` trains biases, norms and masked adapters, `learn.hooks.keep_zeros` all weights that
    are left. A block whose error did not fall stays as it was. Beside the model `reconstruction.json` says each block's errors.

    Source: Zimmer et al. 2023, arXiv 2312.15230, section 3.3.
    Costs: of each block one pass of both models over the calibration tokens, and `steps` passes forward and backward over `batch_size`
        windows; memory of one block of each model, its training, and the activations of the calibration tokens.
    Control: tune.perp
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-weights", "scope-block", "speedup-none", "needs-data", "needs-gradients")
    systems: ClassVar[tuple[int, ...]] = (32,)
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True

    hooks: tuple[Hook, ...] = Field(default_factory=lambda: (build("tune.perp"),))  # what trains of a block
    steps: Count = 100  # optimizer steps for each block
    optimizer: Optimizer = Field(
        default_factory=lambda: build({"use": "learn.optimizers.adamw", "weight_decay": 0.0, "beta2": 0.999})
    )  # how gradients become steps
    schedule: Schedule = Field(default_factory=lambda: build("learn.schedules.linear"))  # shape of the learning rate after its rise
    learning_rate: Positive = 5e-4  # at its peak
    warmup: Share = 0.1  # share of the steps over which the learning rate rises from zero
    batch_size: Count = 8  # windows of a step
    clip: Annotated[float, Field(ge=0)] = 0.0  # longest gradient (L2 norm over all weights); 0 does not clip
    calibration_tokens: Count = 32_768  # tokens to learn from, about; the paper takes 262,144
    length: Annotated[int, Field(ge=0)] = 0  # tokens of a calibration window; 0: the model's context
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the machine has it, on a CPU for models from 128 wide; else fp32
    checkpoint_seconds: Positive = 20.0  # seconds between checkpoints inside a block; saving never takes more than 5% of the time

    def external(self) -> Any:
        """The precision and device that this machine gets."""
        from paredown.engines.precision import resolve_device, resolve_precision

        device = resolve_device()
        return {"device": device, "precision": resolve_precision(self.precision, device)}

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines.estimates import calibrated

        once = calibrated(inputs.get("model"), self.calibration_tokens)
        window = self.length or 2048
        passes = 5 + 3 * self.steps * self.batch_size * window / self.calibration_tokens
        return {name: value * passes if name == "seconds" else value for name, value in once.items()}

    def __call__(self, model: Model, reference: Model, calibration: Tokens) -> Model:
        """The healed model; shapes stay.

        Raises:
            DataError: a weight or an input is NaN or infinite, a checkpoint is a pickle, or there are no tokens.
            UserError: the models have other blocks, nothing of a block would train, or the tokens are of another vocabulary.
        """
        from paredown.core.context import context
        from paredown.engines import layers
        from paredown.engines.reconstruction import MeanSquared, reconstruct
        from paredown.engines.training import Setup

        setup = Setup(
            objective=MeanSquared(), optimizer=self.optimizer, schedule=self.schedule, budget=Budget(steps=self.steps), hooks=self.hooks,
            learning_rate=self.learning_rate, warmup=self.warmup, clip=self.clip, precision=self.precision,
            checkpoint_seconds=self.checkpoint_seconds,
        )  # fmt: skip
        ids = layers.calibration(calibration, model, self.calibration_tokens, self.length)
        walked = reconstruct(model, reference, ids, setup, min(self.batch_size, len(ids)))
        healed = layers.store(model, walked)
        report = [{"name": block["name"], **block["notes"]} for block in walked.blocks]
        (healed.path / REPORT).write_text(json.dumps(report, indent=1) + "\n")
        before, after = (sum(row["error"][when] for row in report) / len(report) for when in ("before", "after"))
        step = context()
        step.facts["reconstruction"] = {"before": before, "after": after}
        step.facts["training"] = {"steps": self.steps, "tokens": self.steps * min(self.batch_size, len(ids)) * ids.shape[1]}
        step.says = f"mean error of a block {before:.3g} -> {after:.3g}"
        return healed
