"""Modules with fresh weights, of an architecture or of a model's own shape."""

from __future__ import annotations

from typing import Any

from torch import nn

from paredown.artifacts.examples import Examples
from paredown.artifacts.model import OWN, Model, quiet
from paredown.artifacts.tokens import Tokens
from paredown.core import catalog
from paredown.core.errors import DataError, UserError
from paredown.engines.model_files import Files, layout
from paredown.engines.parts import Architecture
from paredown.engines.processes import private_randomness, reseed
from paredown.engines.skeletons import architecture

MOST_CLASSES = 100_000  # labels of a new head; more are a mistake in the labels


def initialized(architecture: Architecture, data: Tokens | Examples | None, seed: int) -> nn.Module:
    """A module with random weights that depend on `seed` only."""
    vocabulary = data.vocab_size if data is not None else 0
    end = data.end_of_text if isinstance(data, Tokens) else 0
    with private_randomness():
        reseed(seed, "weights")
        module = architecture.build(vocabulary, end)
    if not hasattr(module, "save_pretrained"):
        module.architecture = architecture.settled(vocabulary).spec()  # type: ignore[assignment]
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


def with_new_head(model: Model, classes: int, seed: int) -> nn.Module:
    """A network of ours with a new head for so many labels, its weights drawn as the architecture draws them; the others as stored.

    Raises:
        UserError: the model is none of ours, or has no labels.
        DataError: a weight is missing.
    """
    spec = model.config.get(OWN)
    if spec is None or "classes" not in spec:
        raise UserError("only a network of ours for labels takes a new head", where=str(model.path))
    if classes > MOST_CLASSES:
        raise UserError(f"{classes:,} labels are too many for a head", todo="number the labels from 0 without gaps")
    stored = model.load()
    with private_randomness():
        reseed(seed, "head")
        module: Any = catalog.build({**spec, "classes": classes}).build(0, 0)
    kept = {name: value for name, value in stored.state_dict().items() if not name.startswith("head.")}
    missing, _ = module.load_state_dict(kept, strict=False)
    strange = [name for name in missing if not name.startswith("head.")]
    if strange:
        raise DataError(f"Model: no file holds {strange[0]}", where=str(model.path))
    module.architecture = {**spec, "classes": classes}
    return module.to(next(stored.parameters()).dtype).eval()  # type: ignore[no-any-return]
