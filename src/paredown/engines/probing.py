"""What one training step on one row would do to a loss elsewhere: try it from the present state, look, and put everything back.

A probe costs its own forward and backward pass and the reference loss; the state stays in memory, weights and the optimizer's
numbers are copied back in place. Every probe starts from the same bits, so what they have in common (momentum, weight decay)
cancels in their differences.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from paredown.engines.batches import counted, on_device
from paredown.engines.flops import Flops

if TYPE_CHECKING:
    from paredown.engines.batches import Batch
    from paredown.engines.training import State

Array = np.ndarray[Any, Any]
AT_ONCE = 64  # rows whose hidden states are computed in one forward pass
SAVE_EVERY = 100  # probes between two saves


class Probes:
    """Tries steps on single rows from the state of a training; `flops` is what all of it took.

    `reference` are the batches whose loss is looked at, in nats a predicted token over all of them.
    """

    def __init__(self, state: State, reference: list[Batch]) -> None:
        self.state, self.flops, self._counts = state, 0.0, Flops()
        self.reference = [_moved(batch, state.device) for batch in reference]
        self.predicted = sum(batch["predicted"] for batch in self.reference)
        held = [p.grad for p in state.module.parameters() if p.grad is not None]
        assert not held, "probes are made between steps"

    def tried(self, rows: list[Batch], told: Callable[[int], None] = lambda done: None) -> Array:
        """The reference loss after one step of the optimizer on each of the batches, each from the present state, (N,) float64."""
        found = np.empty(len(rows))
        with self._as_it_was() as back:
            for number, row in enumerate(rows):
                self._backward(_moved(row, self.state.device))
                self._step()
                found[number] = self.loss()
                back()
                told(number + 1)
        return found

    def empty(self) -> float:
        """The reference loss after a step on nothing: gradients of zero, so momentum and weight decay alone."""
        with self._as_it_was():
            for parameter in self._trained():
                parameter.grad = torch.zeros_like(parameter)
            self._step()
            return self.loss()

    @torch.no_grad()
    def loss(self) -> float:
        """The reference loss of the present weights, in evaluation mode."""
        module, total = self.state.module, 0.0  # nats
        module.eval()
        for batch in self.reference:
            run = functools.partial(self.state.setup.objective.loss, module, batch)
            self._charge(batch, "reference", run)
            mean, n, *_ = run()
            total += float(mean) * n
        module.train()
        return float(total / max(1, self.predicted))

    def _trained(self) -> list[nn.Parameter]:
        return [p for p in self.state.module.parameters() if p.requires_grad]

    def _backward(self, batch: Batch) -> None:
        def run() -> None:
            torch.manual_seed(self.state.seed)  # where there is dropout, the same one for every row
            mean, *_ = self.state.setup.objective.loss(self.state.module, batch)
            mean.backward()  # type: ignore[no-untyped-call]

        self._charge(batch, "probe", run)
        run()

    def _step(self) -> None:
        """As the trainer's: clipped, at the learning rate of its last step."""
        state = self.state
        if state.setup.clip > 0:
            nn.utils.clip_grad_norm_(self._trained(), state.setup.clip)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)

    def _charge(self, batch: Batch, kind: str, run: Callable[[], Any]) -> None:
        """Add what `run` costs. A shape is counted on a pass of its own: under the counter products round otherwise, and probes are compared."""
        key = Flops.shape(batch, kind)
        if not self._counts.known(key):
            with self._counts.counted(key):
                run()
            self.state.optimizer.zero_grad(set_to_none=True)
        self.flops += self._counts.table[key]

    @contextlib.contextmanager
    def _as_it_was(self) -> Iterator[Callable[[], None]]:
        """Inside, a function that puts weights, buffers, the optimizer and the random state back; on leaving they are put back too."""
        module, optimizer = self.state.module, self.state.optimizer
        if not optimizer.state:  # before its first step an optimizer has no numbers yet: they would not be there to put back
            raise ValueError("probes begin after the first step")
        held = [*module.parameters(), *module.buffers()]
        held += [value for entry in optimizer.state.values() for value in entry.values() if isinstance(value, Tensor)]
        floats = [t.detach() for t in held if t.is_floating_point()]
        others = [t.detach() for t in held if not t.is_floating_point()]
        kept = [[t.clone() for t in some] for some in (floats, others)]

        def back() -> None:
            with torch.no_grad():
                torch._foreach_copy_(floats, kept[0])
                for tensor, value in zip(others, kept[1], strict=True):
                    tensor.copy_(value)

        with torch.random.fork_rng(devices=[self.state.device] if self.state.device.type == "cuda" else []):
            try:
                yield back
            finally:
                back()
                optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def mean_hidden(state: State, rows: Array, probes: Probes) -> Array:
    """The last hidden state of each row, averaged over its predicted positions, (rows, width) float32; charged to the probes."""
    from paredown.core.context import context
    from paredown.engines.packing import model_inputs, way_of

    assert state.source is not None
    module, counts = state.module, Flops()
    module.eval()
    found = []
    for start in range(0, len(rows), AT_ONCE):
        batch = _moved(state.source.fill(rows[start : start + AT_ONCE], np.random.default_rng(0)), state.device)
        way = way_of(module) if "positions" in batch else ""
        inputs, _ = model_inputs("mask" if way == "unpacked" else way, batch)
        key = Flops.shape(batch, "hidden")
        with counts.counted(key):
            hidden: Tensor = module(**inputs, output_hidden_states=True).hidden_states[-1].float()
        probes.flops += counts.table[key]
        asked = (batch["targets"] != -100).unsqueeze(-1)
        found.append(((hidden * asked).sum(1) / asked.sum(1).clamp(min=1)).cpu().numpy())
        context().progress(start + len(asked), len(rows), "rows", "scoring")
    module.train()
    return np.concatenate(found)


def _moved(batch: Batch, device: torch.device) -> Batch:
    return {"predicted": counted(batch)} | on_device(batch, device)


def influences(state: State, probes: Probes, rows: Array, name: str) -> Array:
    """How much lower the reference loss is after a step on each of the rows than after one on nothing, (N,) nats a predicted token.

    What was tried is kept in the step's scratch folder. As a training is a pure function of its seed, a killed one comes to
    the same state again and goes on with the probes that are left.
    """
    from paredown.core.context import context

    step, source = context(), state.source
    assert source is not None
    digest = hashlib.sha256(np.asarray(rows).tobytes() + str((state.step, state.tokens)).encode()).hexdigest()
    path = step.scratch / "probes" / f"{name.replace(' ', '-')}-{digest[:16]}.npz"
    done, flops, nothing = np.empty(0), 0.0, math.nan
    if path.exists():
        with np.load(path, allow_pickle=False) as saved:
            done, flops, nothing = saved["done"], float(saved["flops"]), float(saved["nothing"])
    if math.isnan(nothing):
        nothing = probes.empty()
    spent = probes.flops  # of an earlier try: what it counted takes the place of what this one counts again
    probes.flops = max(spent, flops)
    while len(done) < len(rows):
        some = rows[len(done) : len(done) + SAVE_EVERY]
        found = probes.tried([source.fill(some[place : place + 1], np.random.default_rng(0)) for place in range(len(some))])
        done = np.concatenate([done, found])
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path.with_suffix(".part.npz"), done=done, flops=np.array(probes.flops), nothing=np.array(nothing))
        path.with_suffix(".part.npz").rename(path)
        step.progress(len(done), len(rows), "probes", name)
    gains: Array = nothing - done
    return gains
