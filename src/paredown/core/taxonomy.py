"""Where a strategy stands on the axes of the pruning survey (arXiv 2308.06767), widened to data, learning and answering.

A tag is an axis and one of its values, such as `when-after`. Strategies write theirs out as a literal tuple.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from paredown.core.errors import UserError, nearest

NONE = "none"  # in a filter: strategies that say nothing on an axis


@dataclass(frozen=True)
class Axis:
    name: str
    question: str  # that a tag answers
    values: dict[str, str]  # value to its meaning in one line
    least: int = 0  # tags of this axis that every strategy has
    most: int | None = None
    family: str = ""  # only strategies below this name need them

    @property
    def rule(self) -> str:
        """How many tags of it a strategy has, in words."""
        count = "any number" if not self.least else "exactly one" if self.most == 1 else "one or more"
        return count + (f" for {self.family}.*" if self.family else "")


AXES = {
    axis.name: axis
    for axis in (
        Axis(
            "when",
            "When does it act?",
            {
                "before": "before training: on data, or on a model that has learned nothing yet",
                "during": "during training, step by step",
                "after": "after training, once, on a trained model",
                "runtime": "while the model answers, input by input",
            },
            least=1,
        ),
        Axis(
            "what",
            "What does it set, change, take away or measure?",
            {
                "weights": "single weights, wherever they stand",
                "channels": "channels: whole rows and columns of matrices, filters, neurons",
                "heads": "attention heads",
                "layers": "whole layers or blocks",
                "experts": "experts of a mixture",
                "bits": "bits of a stored or computed number",
                "ranks": "ranks of a factorized matrix",
                "deltas": "the difference between tuned and original weights",
                "data": "documents or examples: which are read, and what stands in them",
                "tokens": "tokens: how text is cut, and which are computed or written",
            },
            least=1,
        ),
        Axis(
            "how",
            "By what does it choose what goes?",
            {
                "magnitude": "absolute value of a single weight",
                "norm": "norm of a group of weights or of activations",
                "sensitivity": "change of the loss, first or second order",
                "reconstruction": "error of a layer's output",
                "redundancy": "likeness to what stays",
                "learned": "gates, masks or a policy that training finds",
                "random": "chance; a control",
            },
            least=1,
            family="prune",
        ),
        Axis(
            "scope",
            "Among what does it choose?",
            {
                "row": "the weights of one output",
                "layer": "one layer",
                "block": "one block of layers",
                "global": "the whole model",
            },
        ),
        Axis(
            "speedup",
            "Who gains speed from it?",
            {
                "universal": "any machine: less is read, stored or computed",
                "special": "only kernels or hardware made for it",
                "none": "none by itself",
            },
            least=1,
            most=1,
        ),
        Axis(
            "needs",
            "What does it need, beside what it works on?",
            {
                "data": "text or examples to train, calibrate or measure with",
                "gradients": "a backward pass",
                "retraining": "training afterwards, for quality to come back",
            },
        ),
    )
}
_WORDS = {
    "when-before": "before training",
    "when-during": "during training",
    "when-after": "after training",
    "when-runtime": "at run time",
    "scope-row": "within a row",
    "scope-layer": "within a layer",
    "scope-block": "within a block",
    "scope-global": "over the whole model",
    "speedup-universal": "faster on any machine",
    "speedup-special": "faster only with special kernels",
    "speedup-none": "no speed-up by itself",
}
_KNOWN = {f"{axis.name}-{value}": (axis.name, value) for axis in AXES.values() for value in axis.values}


def parse(tags: Iterable[str]) -> dict[str, list[str]]:
    """Axis to values, all axes, values in the order of the axis; tags that are not known are left out."""
    given = set(tags)
    return {axis.name: [value for value in axis.values if f"{axis.name}-{value}" in given] for axis in AXES.values()}


def mistakes(name: str, tags: Sequence[str]) -> list[str]:
    """What is wrong with the tags of the strategy `name`, in words; nothing where all is well."""
    found = []
    for tag in tags:
        if tag not in _KNOWN:
            close = nearest(tag, _KNOWN)
            found.append(f"{tag} is no tag" + (f"; did you mean {close[0]}?" if close else ""))
    found += [f"{tag} stands there twice" for tag in dict.fromkeys(tags) if tags.count(tag) > 1]
    for axis, values in parse(tags).items():
        rule = AXES[axis]
        if len(values) < rule.least and (not rule.family or name.startswith(f"{rule.family}.")):
            found.append(f"no {axis}- tag ({rule.rule} of {', '.join(rule.values)})")
        if rule.most is not None and len(values) > rule.most:
            found.append(f"{rule.rule} of {' and '.join(f'{axis}-{value}' for value in values)}")
    return found


def matches(tags: Iterable[str], wanted: dict[str, list[str]]) -> bool:
    """Whether the tags have, on every axis that `wanted` names, one of the values asked for there.

    Where an axis may be left out, `none` asks for those that say nothing on it.
    """
    have = parse(tags)
    return all(set(values) & set(have[axis] or [NONE] * (NONE not in AXES[axis].values)) for axis, values in wanted.items() if values)


def check(wanted: dict[str, list[str]]) -> None:
    """Refuse a value that an axis does not have.

    Raises:
        UserError: with the nearest value, or all of them.
    """
    for axis, values in wanted.items():
        rule = AXES[axis]
        allowed = dict.fromkeys([*rule.values, *[NONE] * (not rule.least or bool(rule.family))])
        for value in values:
            if value not in allowed:
                close = nearest(value, allowed)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(allowed)}"
                raise UserError(f"--{axis} has no value {value}", todo=hint)


def words(tags: Iterable[str]) -> str:
    """The tags as one phrase, such as `after training; channels, by norm, within a block; faster on any machine; needs data`."""
    said = {axis: _listed([_WORDS.get(f"{axis}-{value}", value) for value in values]) for axis, values in parse(tags).items()}
    phrases = [
        said["when"],
        ", ".join(part for part in (said["what"], said["how"] and f"by {said['how']}", said["scope"]) if part),
        said["speedup"],
        said["needs"] and f"needs {said['needs']}",
    ]
    return "; ".join(phrase for phrase in phrases if phrase)


def _listed(values: list[str]) -> str:
    return " and ".join(part for part in (", ".join(values[:-1]), *values[-1:]) if part)
