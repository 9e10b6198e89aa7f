"""The recipe as a picture: steps in layers from left to right, what all arms share in the middle, arms above and below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paredown.report.steps import Group

LETTER, SMALL = 7.7, 6.2  # mean width in px of a letter of 12 px and of 10.5 px
GAP_X, GAP_Y, PAD = 26, 9, 8
TALL, FLAT = 42, 24
PAGE = 1090  # px that the page has for it at its widest
LONGEST = 20  # letters of a name that are shown


@dataclass
class Node:
    group: Group
    layer: int
    lane: str
    flat: bool  # a measurement that nothing builds on: one line
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    column: float = 0.0  # width of its column

    @property
    def height(self) -> int:
        return FLAT if self.flat else TALL

    @property
    def title(self) -> str:
        return shorten(self.group.name)

    @property
    def subtitle(self) -> str:
        return shorten(self.group.strategy.rpartition(".")[2])


@dataclass
class Drawing:
    nodes: list[Node]
    edges: list[tuple[str, str]]  # SVG path, arm or ""
    width: float
    height: float


def shorten(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def draw(groups: Sequence[Group], arms: Sequence[str]) -> Drawing:
    """Place every group; edges that a longer way implies are left out."""
    layers = _layers(groups)
    feeding = {id(source) for group in groups for source in group.sources}
    nodes = []
    for group in groups:
        lane = group.arms[0] if len(group.arms) == 1 and len(arms) > 1 else ""
        node = Node(group, layers[group.index], lane, flat=group.measures and id(group) not in feeding)
        widest = max(len(node.title) * LETTER, 0 if node.flat else len(node.subtitle) * SMALL)
        node.width = max(56.0, widest + 2 * PAD + 6)
        nodes.append(node)
    width = _place_columns(nodes)
    height = _place_rows(nodes, arms)
    at = {node.group.index: node for node in nodes}
    edges = []
    for group in groups:
        for source in _direct(group):
            one, two = at[source.index], at[group.index]
            edges.append((_curve(one, two), two.lane or one.lane))
    return Drawing(nodes, edges, width, height)


def _layers(groups: Sequence[Group]) -> dict[int, int]:
    """Longest way from a step without sources; a step that is its own ancestor (a broken summary) stays at 0."""
    found: dict[int, int] = {}

    def layer(group: Group, above: frozenset[int]) -> int:
        if group.index in found:
            return found[group.index]
        if group.index in above:
            return 0
        value = max((layer(s, above | {group.index}) + 1 for s in group.sources), default=0)
        found[group.index] = value
        return value

    for group in groups:
        layer(group, frozenset())
    return found


def _place_columns(nodes: Sequence[Node]) -> float:
    """Layers as columns; long chains are folded into several rows if the picture is wider than the page."""
    by_layer = [[n for n in nodes if n.layer == layer] for layer in sorted({n.layer for n in nodes})]
    width = 0.0
    for rows in (1, 2, 3, 4):
        columns = _fold(by_layer, rows)
        width = 2.0
        for column in columns:
            widest = max(node.width for node in column)
            for node in column:
                node.x, node.column = width, widest
            width += widest + GAP_X
        width += 2 - GAP_X
        if width <= PAGE:
            break
    for node in nodes:
        node.width = node.column
    return max(0.0, width)


def _fold(by_layer: Sequence[list[Node]], rows: int) -> list[list[Node]]:
    """Neighbouring layers of a single shared node put under each other, `rows` at most in a column."""
    columns: list[list[Node]] = []
    chain = 0
    for layer in by_layer:
        alone = len(layer) == 1 and not layer[0].lane
        if alone and 0 < chain < rows:
            columns[-1] += layer
            chain += 1
        else:
            columns.append(list(layer))
            chain = int(alone)
    for number, column in enumerate(columns):
        for node in column:
            node.layer = number
    return columns


def _place_rows(nodes: Sequence[Node], arms: Sequence[str]) -> float:
    half = (len(arms) + 1) // 2
    y = 2.0
    for lane in [*arms[:half], "", *arms[half:]]:
        stacks: dict[int, list[Node]] = {}
        for node in nodes:
            if node.lane == lane:
                stacks.setdefault(node.layer, []).append(node)
        if not stacks:
            continue
        heights = {layer: sum(n.height + GAP_Y for n in stack) - GAP_Y for layer, stack in stacks.items()}
        tallest = max(heights.values())
        for layer, stack in stacks.items():
            at = y + (tallest - heights[layer]) / 2
            for node in sorted(stack, key=lambda n: (n.flat, n.group.index)):
                node.y = at
                at += node.height + GAP_Y
        y += tallest + 2 * GAP_Y
    return max(0.0, y - 2 * GAP_Y + 2)


def _direct(group: Group) -> list[Group]:
    """Sources that are not also ancestors of another source."""
    return [s for s in group.sources if not any(s is not other and s.index in _ancestors(other) for other in group.sources)]


def _ancestors(group: Group) -> set[int]:
    found: set[int] = set()
    queue = list(group.sources)
    while queue:
        source = queue.pop()
        if source.index not in found:
            found.add(source.index)
            queue += source.sources
    return found


def _curve(one: Node, two: Node) -> str:
    if one.x == two.x:  # folded under each other
        return f"M{one.x + one.width / 2:.1f} {one.y + one.height:.1f}V{two.y:.1f}"
    x1, y1 = one.x + one.width, one.y + one.height / 2
    x2, y2 = two.x, two.y + two.height / 2
    if x2 - x1 > GAP_X * 1.5:  # stay on the source's line as long as there is room
        bend = x2 - GAP_X
        return f"M{x1:.1f} {y1:.1f}H{bend:.1f}C{bend + GAP_X / 2:.1f} {y1:.1f} {x2 - GAP_X / 2:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    middle = (x1 + x2) / 2
    return f"M{x1:.1f} {y1:.1f}C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
