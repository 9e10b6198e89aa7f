"""Modules without weights, to learn a model's structure from."""

from __future__ import annotations

from typing import Any

from paredown.artifacts.block_shapes import shaped
from paredown.artifacts.model import OWN, Model
from paredown.core.errors import UserError


def skeleton(model: Model) -> Any:
    """The module of a model folder without its weights (they are on the meta device); buffers are real.

    Raises:
        UserError: transformers does not know the architecture.
    """
    from accelerate import init_empty_weights

    if OWN in model.config:
        with init_empty_weights(include_buffers=False):
            return model.empty().eval()
    kind, config = architecture(model)
    config._experts_implementation = "eager"  # one product for each expert, so that each expert's inputs can be seen
    with init_empty_weights(include_buffers=False):
        return kind(config).eval()


def architecture(model: Model) -> tuple[Any, Any]:
    """The class of a model folder's module, and its configuration.

    Raises:
        UserError: transformers does not know the architecture.
    """
    import transformers

    name = (model.config.get("architectures") or [""])[0]
    kind = getattr(transformers, name, None)
    if kind is None:
        raise UserError(f"Model: transformers {transformers.__version__} has no architecture {name!r}", where=str(model.path))
    config = transformers.AutoConfig.from_pretrained(model.path, local_files_only=True, trust_remote_code=False)
    return shaped(kind, config), config
