"""Contrast between parts of the columns of one row."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.examples import Examples
from paredown.core.errors import UserError
from paredown.core.strategy import Positive, Share
from paredown.engines.parts import Objective, Rows

if TYPE_CHECKING:
    import numpy
    import torch

    from paredown.artifacts.tokens import Tokens
    from paredown.engines.table_rows import TableRows


def partition(columns: Sequence[int], groups: int, overlap: float) -> list[list[int]]:
    """Columns in `groups` parts that follow one another, the first ones one longer where they do not divide evenly.

    Each takes the first ceil(overlap * |part 1|) columns of the next part too; the last takes the last ones of the part before.
    """
    even, rest = divmod(len(columns), groups)
    bounds = [number * even + min(number, rest) for number in range(groups + 1)]
    parts = [list(columns[begin:end]) for begin, end in itertools.pairwise(bounds)]
    more = math.ceil(overlap * len(parts[0]))
    if not more or groups == 1:
        return parts
    return [part + (parts[at + 1][:more] if at + 1 < groups else parts[at - 1][-more:]) for at, part in enumerate(parts)]


def contrastive_loss(
    views: torch.Tensor, tables: torch.Tensor, labels: torch.Tensor | None, temperature: float, base: float
) -> torch.Tensor:
    """Mean loss over the views of B rows, `views` (B, K, D), each against all other views of its table.

    Positives are the other views of the row, or with `labels` (B,) all other views of its label in its table.
    """
    import torch

    rows, count, width = views.shape
    flat = views.reshape(rows * count, width)
    row = torch.arange(rows, device=views.device).repeat_interleave(count)
    same_table = tables.repeat_interleave(count)[:, None] == tables.repeat_interleave(count)
    mark = row if labels is None else labels.repeat_interleave(count)
    itself = torch.eye(rows * count, dtype=torch.bool, device=views.device)
    rivals = same_table & ~itself
    positives = rivals & (mark[:, None] == mark)
    scores = (flat @ flat.T) / temperature
    shares = scores - torch.logsumexp(scores.masked_fill(~rivals, -torch.inf), dim=1, keepdim=True)
    each = shares.masked_fill(~positives, 0).sum(dim=1) / positives.sum(dim=1)
    return -(temperature / base) * each.mean()


class PartitionRows:
    """Rows of tables, each given as K views: the cells of one group of columns each, on the second axis of every array."""

    def __init__(self, source: TableRows, groups: int, overlap: float, shuffle: bool, where: str) -> None:
        self.source, self.groups, self.overlap, self.shuffle, self.rows = source, groups, overlap, shuffle, source.rows
        for table in source.tables:
            if len(table.columns) < groups:
                raise UserError(
                    f"the table {table.name} has {len(table.columns):,} columns: too few for {groups} groups of them",
                    where=where,
                    todo=f"lower groups to {len(table.columns)}" if len(table.columns) > 1 else "give tables of more columns",
                )

    def column(self, name: str) -> numpy.ndarray[Any, Any]:
        return self.source.column(name)

    def fill(self, chosen: numpy.ndarray[Any, Any], generator: numpy.random.Generator) -> dict[str, Any]:
        from paredown.engines.table_rows import together

        parts = []
        for table in self.source.tables:
            count = len(table.columns)
            order = generator.permutation(count) if self.shuffle else range(count)
            parts.append(partition([int(place) for place in order], self.groups, self.overlap))
        views = [[sorted(part[view]) for part in parts] for view in range(self.groups)]
        bags = [self.source.bags(chosen, view.__getitem__) for view in views]
        return {name: values[chosen] for name, values in self.source.columns.items()} | together(bags, axis=1)


class VerticalPartition(Objective):
    """Learn rows of tables by contrast: views of one row, each of some of its columns, shall be alike (VPCL).

    Columns are cut into groups in an order drawn anew for each batch. With `supervised` all views of rows of one label are alike; there
    is no head, so that tables with different labels can be mixed. Views are compared within their table only, and within one
    micro-batch, so `accumulate` changes the result. The model must project rows: `classes: 0`.

    Source: Wang and Sun 2022, arXiv 2205.09328, section 2.4, eq. 3 to 5, with the dot products and temperatures of the reference code.
    Costs: one forward pass a group over its share of the columns.
    Control: learn.objectives.classification from scratch, with the updates that the pre-training took
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-weights", "speedup-none", "needs-gradients")
    systems: ClassVar[tuple[int, ...]] = (40,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    groups: Annotated[int, Field(ge=2)] = 2  # parts that the columns are cut into
    overlap: Share = 0.1  # share of a group that it takes from its neighbour too
    supervised: bool = False  # alike are all rows of a label, not only views of the same row
    shuffle: bool = True  # cut the columns in a new order for every batch; the reference code always takes theirs
    similarity: Literal["dot", "cosine"] = "dot"  # the reference code takes the dot product, the paper the cosine
    temperature: Positive = 10.0  # what similarities are divided by
    base_temperature: Positive = 10.0  # the loss is multiplied by temperature / base_temperature

    def rows(self, data: Tokens | Examples, length: int) -> Rows:
        from paredown.engines.batches import example_rows
        from paredown.engines.table_rows import TableRows

        source = example_rows(data) if isinstance(data, Examples) else None
        if not isinstance(source, TableRows):
            raise UserError("vertical_partition learns from tables", where="objective", todo="give examples of corpus.read.tables")
        return PartitionRows(source, self.groups, self.overlap, self.shuffle, str(data.path))

    def loss(self, module: torch.nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, int]:
        """Mean loss in nats over the views.

        Raises:
            UserError: the model reads no tables, or scores labels instead of projecting rows.
        """
        from torch.nn import functional

        from paredown.engines.classifiers import entries

        inner: Any = getattr(module, "module", module)
        if not hasattr(inner, "reads") or hasattr(inner.head, "linear"):
            raise UserError(
                "vertical_partition needs a model that projects rows of tables", todo="model: {use: learn.models.transtab, classes: 0}"
            )
        given = entries(inner, batch)
        rows, count = given["numbers"].shape[:2]
        views = module(**{name: values.flatten(0, 1) for name, values in given.items()}).float().unflatten(0, (rows, count))
        views = functional.normalize(views, dim=-1) if self.similarity == "cosine" else views
        labels = batch["label"] if self.supervised else None
        return contrastive_loss(views, batch["table"], labels, self.temperature, self.base_temperature), rows
