"""Modules without weights, to learn a model's structure from."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from paredown.artifacts.model import Model
from paredown.core.errors import UserError


def skeleton(model: Model) -> Any:
    """The module of a model folder without its weights (they are on the meta device); buffers are real.

    Raises:
        UserError: transformers does not know the architecture.
    """
    from accelerate import init_empty_weights

    kind, config = architecture(model)
    config._experts_implementation = "eager"  # one product for each expert, so that each expert's inputs can be seen
    with init_empty_weights(include_buffers=False), _NoDraws():
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
    return kind, transformers.AutoConfig.from_pretrained(model.path, local_files_only=True, trust_remote_code=False)


class _NoDraws(TorchFunctionMode):
    """Leaves out the drawing of initial weights that are not there, which takes two milliseconds a layer."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_) and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))
