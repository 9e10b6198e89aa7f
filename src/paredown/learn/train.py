"""Training as a step: a model or an architecture, tokens or examples, a budget."""

from __future__ import annotations

import dataclasses
import math
import shutil
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.catalog import build
from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.core.strategy import Count, Positive, Share, Strategy
from paredown.engines.parts import Architecture, Budget, Draw, Hook, Objective, Optimizer, Sampler, Schedule

if TYPE_CHECKING:
    import torch

STEP_SECONDS = 0.01  # least that a step takes, roughly
FLOPS_PER_SECOND = {"cpu": 5e10, "cuda": 5e13}  # what training reaches, roughly; for estimates only


def training_flops(parameters: float, tokens: float) -> float:
    """FLOPs of a forward and a backward pass: six per weight and token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1)."""
    return 6.0 * parameters * tokens


class Train(Strategy):
    """Train a model on tokens or on labelled examples until a budget is spent.

    A killed or stopped training goes on from its last checkpoint, bit for bit. To use several processes of one machine
    set `processes` and `parallel`; under torchrun (`torchrun --nproc-per-node 2 script.py`) a script that calls this
    strategy uses the processes that it was given.

    Source: none (ours); the loop is drawn in engines/trainer.py.
    Costs: six FLOPs per weight and token, counted; memory of four times the weights plus the activations of a micro-batch.
    Control: none (it is what savings are measured against).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-weights", "speedup-none", "needs-data", "needs-gradients")
    extras: ClassVar[tuple[str, ...]] = ("train",)
    seeded: ClassVar[bool] = True
    one_of: ClassVar[tuple[str, ...]] = ("tokens", "examples")

    budget: Budget  # one of tokens, steps, epochs, seconds, flops
    objective: Objective = Field(default_factory=lambda: build("learn.objectives.next_token"))  # what is learned
    schedule: Schedule = Field(default_factory=lambda: build("learn.schedules.cosine"))  # shape of the learning rate after its rise
    optimizer: Optimizer = Field(default_factory=lambda: build("learn.optimizers.adamw"))  # how gradients become steps
    sampler: Sampler = Field(default_factory=lambda: build("learn.samplers.shuffled"))  # which rows make batch i
    hooks: tuple[Hook, ...] = ()  # what else acts on the training, in this order
    learning_rate: Positive = 3e-3  # at its peak; lower for larger models (3e-4 at a billion weights)
    warmup: Share = 0.05  # share of the budget over which the learning rate rises from zero
    batch_size: Count = 16  # rows of a step, over all processes
    length: Count = 128  # tokens of a row, at most the model's context; examples are rows as they stand
    clip: Annotated[float, Field(ge=0)] = 1.0  # longest gradient (L2 norm over all weights); 0 does not clip
    accumulate: Count = 1  # micro-batches that a step is cut into; less memory, the same result
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the machine has it, on a CPU for models from 128 wide; else fp32
    device: str = "auto"  # auto, cpu, cuda, cuda:0, mps
    compile: bool = False  # torch.compile; on a CPU it took 20 to 50 s to build and gained nothing
    evaluate_every: Annotated[int, Field(ge=0)] = 100  # steps between evaluations on held_out; 0: at the end only
    evaluate_tokens: Count = 16_384  # held-out tokens of an evaluation, about; of examples, as many rows at most
    log_every: Count = 10  # steps of which a point of the loss curve is the mean
    checkpoint_seconds: Positive = 20.0  # seconds between checkpoints; saving never takes more than 5% of the time
    parallel: Literal["none", "ddp", "fsdp"] = "none"  # several processes: each with all weights (ddp) or a share of them (fsdp)
    processes: Count = 1  # processes to start on this machine where parallel is ddp or fsdp
    trackers: tuple[str, ...] = ()  # accelerate's trackers to write curves to: tensorboard, wandb, mlflow, trackio, ...
    tracker_folder: str = ""  # where trackers that write files put them

    def external(self) -> Any:
        """The precision and device that this machine gets."""
        from paredown.engines.precision import resolve_device, resolve_precision

        device = resolve_device(self.device)
        return {"device": device, "precision": resolve_precision(self.precision, device)}

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import estimates
        from paredown.engines.precision import resolve_device

        tokens, examples = inputs.get("tokens"), inputs.get("examples")
        read = tokens if examples is None else examples
        vocab = int(read.get("vocab_size", 8192) if isinstance(read, dict) else getattr(read, "vocab_size", 8192))
        weights = estimates.weights(inputs.get("model"), vocab) or 1e6
        speed = FLOPS_PER_SECOND["cuda" if resolve_device(self.device).startswith("cuda") else "cpu"]
        data, unit, step = (tokens, "tokens", self.batch_size * self.length) if examples is None else (examples, "rows", self.batch_size)
        in_epoch = (data.get(unit) if isinstance(data, dict) else getattr(data, unit, None)) or 1e6
        budget = self.budget
        flops = budget.flops or (budget.seconds or 0) * speed
        seen = budget.tokens or (budget.steps or 0) * step or (budget.epochs or 0) * in_epoch
        if examples is None:  # of examples FLOPs do not tell how many: a convolution uses a weight at every pixel
            seen = seen or flops / training_flops(weights, 1)
        seconds = budget.seconds or max((flops or training_flops(weights, seen)) / speed, STEP_SECONDS * seen / step)
        logits = 3 * vocab if examples is None else 0
        activations = step / self.accumulate * (logits + 200 * (weights / 1000) ** 0.5) * 4
        memory, disk = 8e8 + 16 * weights + activations, 4.0 * weights + 2 * 12 * weights
        known = {"tokens": seen} if seen else {}
        return {"seconds": seconds, **known, "memory": memory, "disk": disk, "parameters": weights}

    def __call__(
        self,
        model: Model | Architecture,
        tokens: Tokens | None = None,
        held_out: Tokens | Examples | None = None,
        examples: Examples | None = None,
    ) -> Model:
        """The trained model with its processor, and `training.json`: what this training spent, and its held-out loss.

        Raises:
            DataError: there is nothing to train on, or the loss is no finite number any more.
            UserError: rows are longer than the model's context, or the tokens are of another vocabulary.
        """
        from paredown.engines import launch

        if (tokens is None) == (examples is None):
            raise UserError("give exactly one of tokens and examples", where="learn.train")
        if self.parallel != "none" and self.processes > 1 and not launch.inside():
            return launch.launch(self, {"model": model, "tokens": tokens, "examples": examples, "held_out": held_out}, self.processes)
        return self._train(model, tokens if tokens is not None else examples, held_out)  # type: ignore[arg-type]

    def _train(self, model: Model | Architecture, data: Tokens | Examples, held_out: Tokens | Examples | None) -> Model:
        import polars as pl

        from paredown.engines import launch, trainer, training
        from paredown.engines.batches import evaluation, randomness

        step = context()
        seed = step.derived_seed("train") if step.seed is not None else 0
        if isinstance(data, Tokens) and data.tokens == 0:
            raise DataError("there is nothing to train on: the tokens are empty", where=str(data.path))
        module, stored = self._module(model, data, seed)
        source = self.objective.rows(data, self.length)
        batch_size = min(self.batch_size, source.rows) if isinstance(data, Examples) else self.batch_size
        setup = training.Setup(**{name: getattr(self, name) for name in training.Setup.__dataclass_fields__})
        setup = dataclasses.replace(setup, hooks=(self.sampler, *self.hooks))
        if self.budget.epochs is not None:
            setup = dataclasses.replace(setup, budget=Budget(steps=math.ceil(self.budget.epochs * source.rows / batch_size)))
        most = self.evaluate_tokens if isinstance(data, Examples) else -(-self.evaluate_tokens // self.length)
        kept_under = self.sampler.strategy_name()

        def batch(state: training.State) -> dict[str, Any]:
            draw = Draw(seed, state.step, batch_size, state.kept.get(kept_under, {}))
            return source.fill(self.sampler.choose(source, draw), randomness(seed, state.step))

        outcome = trainer.fit(
            module,
            batch,
            setup,
            seed=seed,
            step=step,
            source=source,
            held_out=evaluation(self.objective.rows(held_out, self.length), batch_size, most) if held_out is not None else (),
        )
        step.facts["training"]["epochs"] = outcome.steps * batch_size / source.rows
        with launch.main_first(step) as folder:
            if folder is not None:
                processor = model if isinstance(model, Model) else data.tokenizer.fast if data.tokenizer is not None else None
                saved = Model.save(folder, outcome.module.to(stored), processor)
                saved.note_training(step.facts["training"])
                if outcome.about_rows:
                    saved.note_rows(pl.DataFrame({name: values.cpu().numpy() for name, values in outcome.about_rows.items()}))
                if outcome.beside.is_dir():
                    shutil.copytree(outcome.beside, folder, dirs_exist_ok=True)
        return Model(launch.shared(step) / "model")

    def _module(self, model: Model | Architecture, data: Tokens | Examples, seed: int) -> tuple[torch.nn.Module, Any]:
        """The module in fp32, and the number format that it is stored in."""
        import torch

        from paredown.engines.modules import initialized
        from paredown.engines.table_rows import check_words

        if isinstance(model, Architecture):
            module, stored = initialized(model, data, seed), torch.float32
        else:
            loaded = model.load()
            stored = next(loaded.parameters()).dtype
            module = loaded.float()
        if isinstance(data, Examples):
            check_words(module, model, data)
            return module, stored
        known = int(module.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
        if data.vocab_size > known:
            raise UserError(f"the tokens are of another vocabulary: {data.vocab_size:,} ids, but the model knows {known:,}", where="tokens")
        longest = getattr(module.config, "max_position_embeddings", None)
        if longest and self.length > longest:
            raise UserError(f"rows of {self.length:,} tokens do not fit: the model's context is {longest:,}", todo="lower length")
        return module, stored
