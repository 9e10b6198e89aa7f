"""What work on a model will take, from its configuration or its architecture alone; imports nothing heavy."""

from __future__ import annotations

from typing import Any

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.core.errors import PareError
from paredown.engines.parts import Architecture

FLOPS_PER_SECOND = 5e10  # two cores in fp32; for estimates only


def calibrated(model: Any, tokens: int, *, gram: bool = False) -> dict[str, float]:
    """Seconds, memory and disk of a calibrated walk over `model`, or over what is foreseen of one."""
    if not isinstance(model, Model):
        return foreseen(model, 2.0 * tokens * (2 if gram else 1))
    try:
        config = model.config
    except PareError:
        return {}
    hidden = int(config.get("hidden_size") or config.get("n_embd") or 0)
    inner = int(config.get("intermediate_size") or config.get("ffn_dim") or config.get("n_inner") or 4 * hidden)
    blocks = max(1, int(config.get("num_hidden_layers") or config.get("n_layer") or 1))
    size = model.size()
    flops = 2.0 * size / 4 * tokens + (blocks * (2.0 * tokens * (2 * hidden**2 + inner**2) + 4 / 3 * inner**3) if gram else 0)
    memory = 8e8 + 2 * size / blocks + 4.0 * tokens * (4 * hidden + 3 * inner) + (12.0 * inner**2 if gram else 0)
    return {"seconds": flops / FLOPS_PER_SECOND, "memory": memory, "disk": 2.0 * size, "tokens": float(tokens)}


def weights(model: Any, vocabulary: int = 0) -> float:
    """How many weights a model has, an architecture will have, or an earlier step foresees; 0 where nothing is known."""
    if isinstance(model, Architecture):
        return float(model.parameters(vocabulary))
    if isinstance(model, Model):
        return float(model.size() // 4)
    return float(model.get("parameters", 0.0)) if isinstance(model, dict) else 0.0


def rows(data: Any) -> dict[str, float]:
    """`rows` of examples, or of several together, as they are or as earlier steps foresee them; nothing where one is not known."""
    many = data if isinstance(data, (list, tuple)) else [data]
    counts = [each.get("rows") if isinstance(each, dict) else each.rows if isinstance(each, Examples) else None for each in many]
    return {"rows": float(sum(counts))} if counts and all(counts) else {}  # type: ignore[arg-type]


def foreseen(model: Any, flops: float) -> dict[str, float]:
    """Of a model that is not made yet: its parameters, and the time and disk of so many FLOPs a parameter."""
    parameters = weights(model)
    if not parameters:
        return {}
    return {"seconds": flops * parameters / FLOPS_PER_SECOND, "disk": 8.0 * parameters, "parameters": parameters}


def grown(model: Any, hidden_size: int | None, layers: int | None) -> dict[str, float]:
    """What making a model larger takes; weights go with the square of the width and with the depth, about."""
    known = weights(model)
    if isinstance(model, Model):
        for wanted, name, power in ((hidden_size, "hidden_size", 2), (layers, "num_hidden_layers", 1)):
            known *= ((wanted or 1) / model.config[name]) ** power if wanted and model.config.get(name) else 1
    return {"seconds": known / 5e7, "memory": 8e8 + 12 * known, "disk": 4 * known, "parameters": known}
