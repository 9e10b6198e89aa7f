"""Modules with fresh weights, of an architecture or of a model's own shape."""

from __future__ import annotations

from torch import nn

from paredown.artifacts.examples import Examples
from paredown.artifacts.tokens import Tokens
from paredown.engines.parts import Architecture
from paredown.engines.processes import private_randomness, reseed


def initialized(architecture: Architecture, data: Tokens | Examples | None, seed: int) -> nn.Module:
    """A module with random weights that depend on `seed` only."""
    vocabulary, end = (data.vocab_size, data.end_of_text) if isinstance(data, Tokens) else (0, 0)
    with private_randomness():
        reseed(seed, "weights")
        module = architecture.build(vocabulary, end)
    if not hasattr(module, "save_pretrained"):
        module.architecture = architecture.spec()  # type: ignore[assignment]
    return module
