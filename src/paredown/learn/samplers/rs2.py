"""A new random subset in every round."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from paredown.core.errors import UserError
from paredown.engines.parts import Draw, Rows, Sampler

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]


def round_size(rows: int, fraction: float) -> int:
    """Rows of a round: the share, rounded, at least one."""
    return max(1, round(fraction * rows))


def static(rows: int, count: int, seed: int, begin: int, end: int) -> Array:
    """Places `begin` to `end` of rounds that are always of the same `count` rows, in a new order each time."""
    from paredown.engines.orders import in_rounds, permuted, round_seed

    return permuted(in_rounds(count, count, seed, begin, end), rows, round_seed(f"{seed} subset", 0))


def stratified(quotas: Array, order: Array, starts: Array, seed: int, begin: int, end: int) -> Array:
    """Places `begin` to `end` of rounds with `quotas[c]` rows of each class, each class read without repetition until it is used up.

    `order` holds the rows class by class, class c from `starts[c]` to `starts[c + 1]`.
    """
    import numpy as np

    from paredown.engines.orders import permuted_each, round_seed

    ends = np.cumsum(quotas)
    number, place = np.divmod(np.arange(begin, end), ends[-1])
    mixed = permuted_each(
        place, np.full(len(place), ends[-1]), np.array([round_seed(f"{seed} round", n) for n in number.tolist()], dtype=np.uint64)
    )
    group = np.searchsorted(ends, mixed, side="right")
    within = number * quotas[group] + mixed - (ends - quotas)[group]  # place in the endless sequence of the class
    sizes = np.diff(starts)[group]
    epoch, inside = np.divmod(within, sizes)
    seeds = np.array([round_seed(f"{seed} class {g}", e) for g, e in zip(group.tolist(), epoch.tolist(), strict=True)], dtype=np.uint64)
    found: Array = order[starts[group] + permuted_each(inside, sizes, seeds)]
    return found


class Rs2(Sampler):
    """Read a new random subset in every round, instead of one fixed subset in every epoch.

    A round is `fraction` of the rows. Batches follow one another over the ends of rounds as they do over the ends of epochs. A budget of
    X rounds is one of fraction * X epochs, and the schedule spans exactly that, so it is never cut off at a high learning rate.

    Open secret: `no_replacement` takes consecutive blocks of one permutation after another, so it reads what learn.samplers.shuffled
    reads. What it gains over a static subset is gained by training shorter on everything with a whole schedule; a selector that does not
    beat it at equal seconds, its own scoring counted, is not worth its time.

    Source: Okanovic et al. 2023, arXiv 2305.18424, algorithm 1; a permutation that is used up within a round is followed by a fresh one (the
    reference refills from the old one).
    Costs: some microseconds a batch and no memory; `stratified` sorts the labels once, eight bytes a row.
    Control: learn.samplers.shuffled with the same budget; `mode: static` is the subset drawn once
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-data", "speedup-universal")
    systems: ClassVar[tuple[int, ...]] = (12,)

    fraction: Annotated[float, Field(gt=0, le=1)] = 0.1  # share of the rows that a round reads
    mode: Literal["no_replacement", "replacement", "stratified", "static"] = "no_replacement"  # how rounds are drawn; static: all alike

    def choose(self, rows: Rows, draw: Draw) -> Array:
        """
        Raises:
            UserError: `stratified`, but the rows have no label, or a label would never be drawn.
        """
        from paredown.engines.orders import in_rounds, shuffled

        if self.mode == "no_replacement":
            return shuffled(rows.rows, draw.seed, draw.index, draw.size)
        count = round_size(rows.rows, self.fraction)
        begin, end = draw.index * draw.size, (draw.index + 1) * draw.size
        if self.mode == "replacement":
            return in_rounds(rows.rows, count, draw.seed, begin, end)
        if self.mode == "static":
            return static(rows.rows, count, draw.seed, begin, end)
        quotas, order, starts = _classes(rows, count)  # type: ignore[arg-type]  # rows are hashed by what they are
        return stratified(quotas, order, starts, draw.seed, begin, end)


@functools.lru_cache(maxsize=2)
def _classes(rows: Any, count: int) -> tuple[Array, Array, Array]:
    """(rows of a round, all rows class by class, where each class begins and the last one ends)."""
    import numpy as np

    from paredown.engines.orders import apportioned

    names, sizes = np.unique(rows.column("label"), return_counts=True)
    quotas = apportioned(sizes, count)
    if (quotas == 0).any():
        raise UserError(
            f"{int((quotas == 0).sum()):,} labels would never be drawn, such as {names[quotas == 0][0]}: a round has {count:,} rows",
            where="sampler",
            todo="raise fraction, or set mode: no_replacement",
        )
    return quotas, np.argsort(rows.column("label"), kind="stable"), np.concatenate([[0], np.cumsum(sizes)])
