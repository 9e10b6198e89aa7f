"""What a training learned and forgot of each example."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from paredown.core.errors import UserError
from paredown.engines.parts import Hook

if TYPE_CHECKING:
    import torch

    from paredown.engines.training import State

NAME = "learn.hooks.learning_events"


def note(kept: dict[str, torch.Tensor], rows: torch.Tensor, right: torch.Tensor) -> None:
    """Count one presentation of `rows` (B,), each of which was `right` (B,) or not, into `kept`.

    Forgotten is a row that was right when it was presented before and is wrong now.
    """
    ones = rows.new_ones(len(rows))
    kept["forgotten"][rows] += (kept["last"][rows] & ~right).long()  # a row that stands twice in a batch is forgotten once
    kept["seen"].index_add_(0, rows, ones)
    kept["right"].index_add_(0, rows, right.long())
    kept["last"][rows] = right


class LearningEvents(Hook):
    """Note how often each example was seen, right and forgotten, in the file training_rows.parquet beside the weights.

    Columns `seen`, `right` and `forgotten` are counts, `last` tells whether it was right the last time, `label` is its label. An example is
    judged by the scores that the training computes anyway, before the step that learns from it.

    Source: Toneva et al. 2018, arXiv 1812.05159, section 3, algorithm 1.
    Costs: an argmax a batch; 33 bytes for each example.
    Control: none (it changes nothing)
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-data", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (12,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    def start(self, state: State) -> None:
        """
        Raises:
            UserError: the rows have no label, or several processes share them.
        """
        import torch

        if state.source is None or state.setup.parallel != "none":
            raise UserError("learning events are noted by one process that knows its rows", where="hooks", todo="set parallel: none")
        label = torch.as_tensor(state.source.column("label").copy(), dtype=torch.long)
        kept = state.kept.setdefault(NAME, {})
        for name in ("seen", "right", "forgotten"):
            kept[name] = kept.get(name, torch.zeros(len(label), dtype=torch.long)).to(state.device)
        kept["last"] = kept.get("last", torch.zeros(len(label), dtype=torch.bool)).to(state.device)
        memory = state.memory.setdefault(NAME, {"label": label})
        memory["handle"] = state.module.register_forward_hook(lambda _, __, scores: memory.update(scores=getattr(scores, "logits", scores)))

    def loss(self, state: State) -> None:
        """
        Raises:
            UserError: the objective's batches do not tell which rows they hold.
        """
        rows = state.batch.get("row")
        if rows is None:
            raise UserError(
                "learning events need batches that tell their rows", where="hooks", todo="set objective: learn.objectives.classification"
            )
        right = state.memory[NAME]["scores"].detach().argmax(dim=-1) == state.batch["label"]
        note(state.kept[NAME], rows.long(), right)

    def end(self, state: State) -> None:
        state.memory[NAME]["handle"].remove()
        kept = state.kept[NAME]
        state.about_rows.update(
            {"label": state.memory[NAME]["label"], **{name: kept[name] for name in ("seen", "right", "forgotten", "last")}}
        )
