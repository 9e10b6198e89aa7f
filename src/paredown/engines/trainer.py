"""The training loop: one for every module, objective and kind of data. New wishes are hooks, or they are refused.

    reseed(seed); hooks.prepare(module)                 # <- adapters, frozen weights; then the optimizer is built
    reseed(seed); hooks.start(state)                    # a fresh module; `state.step` is not 0 where a checkpoint goes on
    while budget is left:
        reseed(seed, step)                              # so step i is a pure function of (seed, i), dropout included
        batch = batches(state)                          # the rows of all processes; the last one is cut to the budget
        for state.batch in micro_batches(my_rows(batch)):
            hooks.batch(state)                          # <- change what is learned from: mask, mix, add targets
            state.loss, n = objective(state.forward, state.batch)
            hooks.loss(state)                           # <- add to the loss: penalties, distillation
            backward(state.loss)
        hooks.gradient(state)                           # <- read or change gradients, before they are clipped
        clip; learning rate; optimizer.step
        hooks.step(state)                               # <- weights have moved: masks, growth, averages
        log, evaluate, checkpoint
    hooks.end(state)
    hooks.beside(module, folder); hooks.merge(module)   # <- the last one first: adapters are written, and merged into the weights

The sampler is the first of the hooks. Budgets: steps are exact; tokens are exact, as the last batch is cut to what is left; FLOPs and seconds end with the batch
that reaches them. The learning rate of a step is taken at the middle of its share of the budget.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from paredown.artifacts.tokens import say_tokens
from paredown.core.context import Context
from paredown.core.errors import DataError
from paredown.engines import checkpoints, telemetry
from paredown.engines.batches import Batch, counted, cut, on_device, pieces, processed, share
from paredown.engines.flops import Flops
from paredown.engines.parts import Hook, Rows
from paredown.engines.precision import resolve_device, suited_precision
from paredown.engines.processes import Processes, interrupts, private_randomness, reseed
from paredown.engines.sparse_training import in_blocks
from paredown.engines.training import SAVED, Batches, Outcome, Setup, State


def fit(
    module: nn.Module,
    batches: Batches,
    setup: Setup,
    *,
    seed: int,
    step: Context,
    held_out: Sequence[Batch] = (),
    source: Rows | None = None,
) -> Outcome:
    """Train `module` in place.

    `batches(state)` gives the rows of step `state.step` for all processes, a pure function of that number and of `state.kept`;
    `source`, where it is known, are the rows that they are taken from. The curves, the chosen precision and the
    cost go to `step`; a checkpoint in `step.scratch` from an earlier try is gone on from, bit for bit.

    Raises:
        DataError: the loss is no finite number any more.
    """
    device_name = resolve_device(setup.device)
    precision = suited_precision(setup.precision, device_name, module)
    partial = any(hook.partial for hook in setup.hooks)
    with (
        private_randomness(),
        Processes(setup.parallel, precision, device_name, setup.trackers, setup.tracker_folder, partial=partial) as processes,
    ):
        return _Run(module, batches, setup, seed, step, held_out, processes, precision, source).train()


class _Run:
    """One call of `fit`."""

    def __init__(
        self,
        module: nn.Module,
        batches: Batches,
        setup: Setup,
        seed: int,
        step: Context,
        held_out: Sequence[Batch],
        processes: Processes,
        precision: str,
        source: Rows | None,
    ) -> None:
        self.batches, self.setup, self.seed, self.context, self.held_out = batches, setup, seed, step, held_out
        self.processes, self.precision = processes, precision
        self.folder, self.beside = step.scratch / "checkpoints", step.scratch / "beside"
        self.flops = Flops()
        self.evaluation_flops = 0.0  # part of the cost, not of the budget
        whole = sum(p.numel() for p in module.parameters())
        self.outside = whole - sum(p.numel() for p in in_blocks(module).values())
        self.curves = telemetry.Curves(step.listener, processes)
        self.evaluations = telemetry.Evaluations()
        self.windows = {"loss": telemetry.Window()}  # since the last log, by curve
        reseed(seed)
        for hook in setup.hooks:
            hook.prepare(module)
        reseed(seed)
        # Sharding changes a module's class and parameters, so what is saved in the end is a copy made before.
        self.copy = copy.deepcopy(module) if processes.shards and processes.main else None
        module.train()
        forward, optimizer = processes.prepare(module, setup.optimizer.build(module))
        inner: nn.Module = processes.unwrap(forward)
        self.eager = forward
        forward = torch.compile(forward) if setup.compile else forward  # type: ignore[assignment]
        self.state = State(inner, forward, optimizer, setup, seed, torch.Generator(), processes.device, active=whole, source=source)
        self.trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
        self.hooks = {point: [h for h in setup.hooks if getattr(type(h), point) is not getattr(Hook, point)] for point in Hook.points}
        self.resumed_at = self._resume()

    def train(self) -> Outcome:
        state, setup = self.state, self.setup
        begun = time.perf_counter() - state.seconds
        reporter = telemetry.Reporter(self.context, setup.budget)
        saver = telemetry.Due(setup.checkpoint_seconds)
        with interrupts() as interrupted:
            while not (state.stop or state.spent() >= 1):
                self._step()
                state.seconds = time.perf_counter() - begun
                if state.step % setup.log_every == 0:
                    self._log()
                if setup.evaluate_every and state.step % setup.evaluate_every == 0:
                    self._evaluate()
                reporter.say(state, self.curves.last("loss"))
                stop, save = self.processes.agree(interrupted(), saver.due())
                if stop or save:
                    with saver.saving():
                        self._save()
                if stop:
                    raise KeyboardInterrupt(f"training stopped after step {state.step:,}; it goes on from there")
                if setup.budget.seconds is not None:
                    state.seconds = self.processes.leader(state.seconds)
        if self.windows["loss"]:
            self._log()
        if self.held_out and (not self.curves.points["held_out_loss"] or self.curves.points["held_out_loss"][-1][0] != state.step):
            self._evaluate()
        self._call("end")
        return self._outcome()

    def _step(self) -> None:
        """One step of the optimizer."""
        state, setup, world = self.state, self.setup, self.processes.world
        state.generator.manual_seed(reseed(self.seed, state.step, self.processes.rank))
        rows = self.batches(state)
        if setup.budget.tokens is not None:
            rows = cut(rows, int(setup.budget.tokens) - state.tokens)
        tokens = counted(rows)
        state.processed += processed(rows)
        parts = pieces(share(rows, self.processes.rank, world), setup.accumulate)
        weighted = world > 1 or len(parts) > 1  # means over unequal parts must be weighted by what they are means of
        total = torch.zeros((), device=state.device)
        predicted, flops = 0, 0
        named = telemetry.Sums(state.device)
        for number, part in enumerate(parts):
            state.batch = self._moved(part)
            self._call("batch")
            key = Flops.shape(state.batch, f"train {state.variant}".rstrip())
            with self.flops.counted(key) as counting, self.processes.no_sync(state.forward, number + 1 < len(parts)):
                # A compiled module hides its products from the counter.
                with self.processes.autocast():
                    state.loss, n, *more = setup.objective.loss(self.eager if counting else state.forward, state.batch)
                self._call("loss")
                self.processes.backward(state.loss * n if weighted else state.loss)
            total += state.loss.detach() * n
            predicted += n
            named.add(more)
            flops += self.flops.table[key]
        total, predicted, flops = self.processes.sum(total, predicted, flops)
        if weighted:
            scale = world / max(1, predicted)  # gradients of several processes arrive as their mean
            torch._foreach_mul_([p.grad for p in state.module.parameters() if p.grad is not None], scale)
        self._call("gradient")
        if setup.clip > 0:
            nn.utils.clip_grad_norm_(state.module.parameters(), setup.clip)
        state.progress = state.spent(half_of={"tokens": tokens, "steps": 1, "flops": flops})
        rise = min(1.0, state.progress / setup.warmup) if setup.warmup > 0 else 1.0
        state.learning_rate = setup.learning_rate * rise * setup.schedule.factor(min(1.0, state.progress))
        for group in state.optimizer.param_groups:
            group["lr"] = state.learning_rate * group.get("lr_scale", 1.0)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.tokens += tokens
        state.flops += flops
        state.active_tokens += state.active * tokens
        self._call("step")
        self.windows["loss"].add(total, predicted)
        for name, (of_name, n) in named.summed(self.processes):
            self.windows.setdefault(name, telemetry.Window()).add(of_name, n)

    def _moved(self, part: Batch) -> Batch:
        """A batch on the device, with the number of its predicted tokens, which asking the device for would wait."""
        return on_device(part, self.state.device) | {"predicted": counted(part)}

    def _log(self) -> None:
        value = self._mean_loss()
        self.curves.add("loss", self.state.step, self.state.tokens, value)
        for name, window in self.windows.items():
            if name != "loss" and window.predicted:
                self.curves.add(name, self.state.step, self.state.tokens, window.read(self.state.step)[0])
        for metric, number in self.state.measured.items():
            self.curves.add(metric, self.state.step, self.state.tokens, number)
        for window in self.windows.values():
            window.clear()

    def _mean_loss(self) -> float:
        """Mean loss of the steps since the last log; finds the step where it stopped being finite."""
        value, bad = self.windows["loss"].read(self.state.step)
        if bad is not None:
            saved = checkpoints.newest(self.folder)
            at = checkpoints.facts(saved)["step"] if saved else None
            raise DataError(
                f"the loss is no finite number ({value}) at step {bad:,}, at a learning rate of about {self.state.learning_rate:.2g}",
                where=f"{self.context.name}, step {bad:,}",
                kept=f"the checkpoint of step {at:,} was still sound: {saved}"
                if saved
                else "no checkpoint yet: it failed before the first one",
                todo="lower learning_rate, lengthen warmup, or set precision: fp32; look for damaged documents near that step",
            )
        return value

    @torch.no_grad()
    def _evaluate(self) -> None:
        """Mean held-out loss over all tokens of the held-out batches."""
        with self.evaluations.timed(self.state) as found:
            self._measure(found)
        for name, value in found.items():
            self.curves.add(f"held_out_{name}", self.state.step, self.state.tokens, value)

    def _measure(self, found: dict[str, float]) -> None:
        state = self.state
        state.module.eval()
        total, predicted, flops = torch.zeros((), device=state.device), 0, 0
        named = telemetry.Sums(state.device)
        for number, rows in enumerate(self.held_out):
            reseed(self.seed, "held out", number, self.processes.rank)
            part = share(rows, self.processes.rank, self.processes.world)
            batch = self._moved(part)
            key = Flops.shape(batch, "evaluate")
            with self.flops.counted(key) as counting, self.processes.autocast():
                loss, n, *more = self.setup.objective.loss(self.eager if counting else state.forward, batch)
            total += loss * n
            predicted += n
            named.add(more)
            flops += self.flops.table[key]
        state.module.train()
        total, predicted, flops = self.processes.sum(total, predicted, flops)
        self.evaluation_flops += flops
        if predicted:
            found["loss"] = float(total) / predicted
        for name, (of_name, n) in named.summed(self.processes):
            if n:
                found[name] = float(of_name) / n

    def _call(self, point: str) -> None:
        for hook in self.hooks[point]:
            getattr(hook, point)(self.state)

    def _save(self) -> None:
        self._mean_loss()  # a checkpoint is never taken of a state that is lost already
        for window in self.windows.values():
            window.read(self.state.step)
        state = self.state
        tensors, plain = checkpoints.gather(state.module, state.optimizer, state.kept)
        if self.processes.main:
            facts = {name: getattr(state, name) for name in SAVED}
            facts |= {
                "optimizer": plain,
                "table": self.flops.table,
                "curves": self.curves.dump(),
                "evaluations": self.evaluations.dump(),
                "windows": {name: window.dump() for name, window in self.windows.items()},
                "evaluation": self.evaluation_flops,
            }
            checkpoints.save(self.folder, state.step, tensors, facts)
        self.processes.wait()

    def _resume(self) -> int:
        """Go on from the newest sound checkpoint; the step it was taken at, or 0."""
        state = self.state
        self.processes.wait()
        found = checkpoints.newest(self.folder)
        facts: dict[str, Any] = {}
        if found:
            facts = checkpoints.facts(found)
            for name in SAVED:
                setattr(state, name, facts[name])
            state.kept = checkpoints.kept(found)
            self.flops, self.evaluation_flops = Flops(facts["table"]), facts["evaluation"]
            self.curves.load(facts["curves"])
            self.evaluations.load(facts["evaluations"])
            for name, dumped in facts["windows"].items():
                self.windows.setdefault(name, telemetry.Window()).load(dumped)
        state.generator.manual_seed(reseed(self.seed))
        self.setup.objective.prepare(self.eager)
        self._call("start")
        if found:
            checkpoints.restore(found, state.module, state.optimizer, facts["optimizer"])
        state.weights = state.weights or state.active
        return state.step

    def _outcome(self) -> Outcome:
        state = self.state
        module = self.processes.finish(state.forward, state.module, self.copy)
        module.eval()
        if self.processes.main or not self.processes.shards:
            for hook in reversed(state.setup.hooks):
                if self.processes.main:
                    hook.beside(module, self.beside)
                hook.merge(module)
        flops = state.flops + self.evaluation_flops
        held_out = self.curves.last("held_out_loss")
        facts: dict[str, Any] = {
            "precision": self.precision,
            "device": str(state.device),
            "processes": self.processes.world,
            "steps": state.step,
            "tokens": state.tokens,
            "seconds": round(state.seconds, 3),
            "tokens_per_second": round(state.tokens / state.seconds, 1) if state.seconds else None,
            "resumed_at": self.resumed_at,
            "curves": self.curves.thinned(),
            "evaluated_at_seconds": self.evaluations.clock,
            "training": {
                "steps": state.step,
                "tokens": state.tokens,
                "processed": state.processed,
                "flops": state.flops,
                "nominal_flops": 6 * (state.active_tokens - self.outside * state.tokens),  # as if zeros in the blocks cost nothing
                "parameters": {
                    "initial": state.weights,
                    "final": state.active,
                    "average": state.active_tokens / state.tokens if state.tokens else float(state.active),
                    "outside": self.outside,
                    "trainable": self.trainable,
                },
                "held_out_loss": held_out,
                "evaluations": self.evaluations.points,
            },
        }
        self.context.charge(flops=flops, how="counted", tokens=state.tokens)
        self.context.facts.update(facts)
        loss = self.curves.last("loss")
        seen = say_tokens(state.tokens) if "targets" in state.batch else f"{state.tokens:,} examples"
        self.context.says = seen + (f", loss {loss:.3f}" if loss is not None else "")
        return Outcome(module, state.step, state.tokens, flops, state.seconds, held_out, facts, state.about_rows, self.beside)
