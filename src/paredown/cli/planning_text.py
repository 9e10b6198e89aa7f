"""What `paredown plan` prints, from the object that `--json` gives."""

from __future__ import annotations

import textwrap
from typing import Any

from paredown.cli.screen import WIDTH, count, number, size, text_table
from paredown.engines.scaling_laws import NAMES

AROUND = 2  # sizes shown on each side of the best one


def of_file(found: dict[str, Any]) -> list[str]:
    lines = law(found)
    best = found["optimum"]
    if best:
        lines += [
            "",
            f"  {_budget(found['budget'])}, 6 a weight and token: {count(best['parameters'])} parameters, {count(best['tokens'])} tokens",
            f"  predicted loss {_between(best)}",
            f"  {_beyond(best['beyond'])}",
        ]
    return lines


def of_recipe(found: dict[str, Any]) -> list[str]:
    runs = found["runs"]
    weights, tokens, flops = ([run[key] for run in runs] for key in ("initial", "tokens", "flops"))
    lines = [
        f"{found['recipe']}  step {found['step']}: {len(runs)} runs of {count(min(weights))} to {count(max(weights))} parameters, "
        f"{count(min(tokens))} to {count(max(tokens))} tokens, up to {number(max(flops), 'FLOPs')} FLOPs",
        "",
        *law(found),
    ]
    choice = found["choice"]
    if not choice:
        return [*lines, "", "  --budget flops=NUMBER proposes what to train"]
    said = [_model(choice), f"predicted loss {_between(choice)}, nats a token", _beyond(choice["beyond"])]
    if choice["passes"] and choice["passes"] > max(1.0, choice["passes_fitted"]):
        said.append(
            f"{choice['passes']:.1f} passes over the training tokens, {choice['passes_fitted']:.1f} at most in the fitted runs: "
            "repeated tokens teach less"
        )
    lines += ["", *_table(found), "", *_beside("train", [*said, *choice["notes"]])]
    if found["alternative"]:
        lines += ["", *_beside("instead", [_alternative(found["alternative"])])]
    where = f" on top of the arm {choice['arm']}" if choice["arm"] else ""
    lines += ["", f"  as overrides{where}:"]
    lines += [f"    --set {_quoted(setting)}" for setting in choice["settings"]]
    if choice["arm"]:
        lines += ["  an arm or a grid that sets one of these keeps its own value; --verify trains the proposal as it stands"]
    return lines


def law(found: dict[str, Any]) -> list[str]:
    """The constants with their intervals, and how well the law fits."""
    kind = {"average": "averaged over the training", "final": "that are not zero in the end", "initial": "at the start"}[
        found["parameters"]
    ]
    rows = []
    for name in NAMES:
        interval = found["intervals"].get(name)
        rows.append([name, _digits(found[name]), f"{_digits(interval[0])} to {_digits(interval[1])}" if interval else "-"])
    lines = [f"  loss = E + A/N^alpha + B/D^beta, N the parameters {kind}, D the training tokens", ""]
    lines += [f"  {line}" for line in text_table(["", "fitted", "95% interval"], rows)]
    said = f"{found['n']} runs, R^2 {found['r2']:.4f}, mean error {found['mean_abs_relative_error']:.2%} of the loss"
    lines += ["", f"  {said}" + (f"; intervals from {found['resamples']:,} bootstrap resamples of the runs" if found["resamples"] else "")]
    return lines + [f"  {text}" for note in found["notes"] for text in _wrapped(note)]


def verdict(found: dict[str, Any]) -> list[str]:
    """What the trained proposal measured beside what was foreseen."""
    done = found["verification"]
    low, high = done["interval"]
    sign = "too high" if done["error"] > 0 else "too low"
    lines = [
        f"  predicted {done['predicted']:.4f} (95%: {low:.4f} to {high:.4f}), measured {done['measured']:.4f}: "
        f"the prediction is {abs(done['error']):.2%} {sign}",
        f"  the measured loss lies {'inside' if done['within'] else 'outside of'} the interval",
        f"  {count(done['parameters']['initial'])} parameters, {count(done['tokens'])} tokens, {number(done['flops'], 'FLOPs')} FLOPs; {done['folder']}",
    ]
    return lines


def _table(found: dict[str, Any]) -> list[str]:
    """The sizes around the best one of each kind."""
    choice, other = found["choice"], found["alternative"]
    rows = []
    for best in filter(None, (choice, other)):
        kind = [c for c in found["candidates"] if c["kind"] == best["kind"]]
        at = next(i for i, c in enumerate(kind) if c["hidden_size"] == best["hidden_size"])
        for c in kind[max(0, at - AROUND) : at + AROUND + 1]:
            mark = " <" if c["hidden_size"] == best["hidden_size"] and best is choice else ""
            rows.append(
                [
                    c["kind"], str(c["hidden_size"]), count(c["initial"]), *([count(c["final"]), f"{c['sparsity']:.0%}"] if _sparse(found) else []),
                    count(c["tokens"]), f"{c['loss']:.4f}", f"{c['interval'][0]:.3f} to {c['interval'][1]:.3f}{mark or '  '}",
                ]
            )  # fmt: skip
    titles = [
        "",
        "hidden size",
        "parameters",
        *(["non-zero in the end", "sparsity"] if _sparse(found) else []),
        "tokens",
        "predicted loss",
        "95%  ",
    ]
    return [f"  for {_budget(found['budget'])}", "", *(f"  {line}" for line in text_table(titles, rows))]


def _sparse(found: dict[str, Any]) -> bool:
    return any(c["kind"] == "sparse" for c in found["candidates"])


def _model(c: dict[str, Any]) -> str:
    said = f"hidden size {c['hidden_size']}, {count(c['initial'])} parameters"
    if c["kind"] == "sparse":
        said += f" pruned to {count(c['final'])} while it trains (sparsity {c['sparsity']:.0%} of what is prunable)"
    return f"{said}, {count(c['tokens'])} tokens"


def _alternative(other: dict[str, Any]) -> str:
    """The best candidate of the other kind, and whether the law tells the two apart."""
    low, high = other["difference_interval"]
    said = (
        f"the best {other['kind']} one: {_model(other)}; predicted loss {other['loss']:.4f}, that of the proposal is "
        f"{-other['difference']:.4f} lower (95%: {-high:.4f} to {-low:.4f})"
    )
    return said + ("; the fitted runs do not tell the two apart" if low <= 0 <= high else "")


def _beside(label: str, texts: list[str]) -> list[str]:
    """Texts below each other, wrapped, beside a label."""
    lines = [line for text in texts for line in _wrapped(text)]
    return [f"  {label if at == 0 else '':<8} {line}" for at, line in enumerate(lines)]


def _between(best: dict[str, Any]) -> str:
    low, high = best["interval"]
    return f"{best['loss']:.4f}" + (f" (95% for one run: {low:.4f} to {high:.4f})" if low < high else "")


def _beyond(times: dict[str, float]) -> str:
    return (
        f"{times['flops']:.3g} times the largest fitted compute, {times['parameters']:.3g} times the most parameters, "
        f"{times['tokens']:.3g} times the most tokens"
    )


def _budget(budget: dict[str, float | None]) -> str:
    pieces = [
        f"{number(budget['flops'], 'FLOPs')} FLOPs of training" if budget["flops"] else "",
        f"{size(budget['bytes'])} at rest (4 bytes a weight)" if budget["bytes"] else "",
        f"{budget['ms']:g} ms a decoded token" if budget["ms"] else "",
    ]
    return ", ".join(filter(None, pieces))


def _digits(value: float) -> str:
    return f"{value:.4g}" if value < 1e5 else f"{value:.3g}".replace("e+", "e").replace("e0", "e")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH - 11, break_on_hyphens=False)


def _quoted(setting: str) -> str:
    return f"'{setting}'" if any(sign in setting for sign in " {}[]*$") else setting
