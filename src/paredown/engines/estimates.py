"""What block-by-block work will take, from a model's configuration alone; imports nothing heavy."""

from __future__ import annotations

from typing import Any

from paredown.artifacts.model import Model
from paredown.core.errors import PareError

FLOPS_PER_SECOND = 5e10  # two cores in fp32; for estimates only


def calibrated(model: Any, tokens: int, *, gram: bool = False) -> dict[str, float]:
    """Seconds, memory and disk of a calibrated walk over `model`; nothing where the model is not made yet."""
    if not isinstance(model, Model):
        return {}
    try:
        config = model.config
    except PareError:
        return {}
    hidden = int(config.get("hidden_size") or config.get("n_embd") or 0)
    inner = int(config.get("intermediate_size") or config.get("ffn_dim") or config.get("n_inner") or 4 * hidden)
    blocks = max(1, int(config.get("num_hidden_layers") or config.get("n_layer") or 1))
    size = model.size()
    flops = 2.0 * size / 4 * tokens + (blocks * (2.0 * tokens * (2 * hidden**2 + inner**2) + 4 / 3 * inner**3) if gram else 0)
    memory = 4e8 + 2 * size / blocks + 4.0 * tokens * (4 * hidden + 3 * inner) + (12.0 * inner**2 if gram else 0)
    return {"seconds": flops / FLOPS_PER_SECOND, "memory": memory, "disk": 2.0 * size, "tokens": float(tokens)}
