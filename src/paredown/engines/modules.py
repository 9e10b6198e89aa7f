"""Modules with fresh weights, of an architecture or of a model's own shape."""

from __future__ import annotations

from typing import Any

from torch import nn

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import OWN, Model, quiet
from paredown.artifacts.tokens import Tokens
from paredown.core.errors import UserError
from paredown.engines.model_files import Files, layout
from paredown.engines.parts import Architecture
from paredown.engines.processes import private_randomness, reseed
from paredown.engines.skeletons import architecture


def initialized(architecture: Architecture, data: Tokens | Examples | None, seed: int) -> nn.Module:
    """A module with random weights that depend on `seed` only."""
    vocabulary, end = (data.vocab_size, data.end_of_text) if isinstance(data, Tokens) else (0, 0)
    with private_randomness():
        reseed(seed, "weights")
        module = architecture.build(vocabulary, end)
    if not hasattr(module, "save_pretrained"):
        module.architecture = architecture.spec()  # type: ignore[assignment]
    return module


def reinitialized(model: Model, seed: int) -> nn.Module:
    """A module of the model's own shape and number format, its random weights drawn as its architecture draws them.

    Raises:
        UserError: config.json describes another shape than the weights have, or transformers does not know the architecture.
    """
    with private_randomness():
        reseed(seed, "weights")
        if OWN in model.config:
            module = model.empty()
        else:
            kind, config = architecture(model)
            with quiet():
                module = kind(config)
    with Files(model) as files:
        for name, pieces in layout(module, files).items():
            stored, wanted = files.shape(pieces[0].key), tuple(module.state_dict()[name].shape)
            if not pieces[0].index and stored != wanted:
                raise UserError(f"Model: {pieces[0].key} has the shape {stored}, but config.json asks for {wanted}", where=str(model.path))
        kinds = [files.dtype(key) for key in sorted(files.where)]
    made: Any = module.to(next((kind for kind in kinds if kind.is_floating_point), None))
    return made.eval()  # type: ignore[no-any-return]
