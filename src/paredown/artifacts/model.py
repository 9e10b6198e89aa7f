"""A model with its tokenizer as a `save_pretrained` folder; safetensors only."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paredown.artifacts.block_shapes import SHAPES, shaped
from paredown.core.artifact import Artifact
from paredown.core.errors import DataError, UserError

if TYPE_CHECKING:
    import polars
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerFast

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
OWN = "paredown"  # entry of config.json that holds the architecture part of a module that is no class of transformers
TRAINING = "training.json"
ROWS = "training_rows.parquet"  # what a hook noted of every row that was trained on
PROCESSOR_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "vocab.json", "merges.txt")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own progress bars: a step shows its progress itself."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextlib.contextmanager
def torch_randomness_kept() -> Iterator[None]:
    """Leave torch's global generator as it was."""
    import torch

    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


class Model(Artifact):
    """`config.json`, `model.safetensors` (or shards with their index) and the tokenizer's files.

    Loads in stock transformers wherever the shape allows: everything but blocks that differ (`block_shapes`) and our own
    architectures. Pickled checkpoints are refused.
    """

    kind = "Model"

    @cached_property
    def config(self) -> dict[str, Any]:
        """`config.json` as a dict."""
        if not (self.path / "config.json").exists():
            raise DataError("Model: no config.json in the folder", where=str(self.path), todo="give a folder that save_pretrained wrote")
        loaded: dict[str, Any] = self.read_json("config.json")
        return loaded

    @cached_property
    def weight_files(self) -> dict[str, str]:
        """Tensor name to file name, without reading a tensor.

        Raises:
            DataError: there are no safetensors, or only a pickled checkpoint.
        """
        from safetensors import SafetensorError, safe_open

        if (self.path / "model.safetensors.index.json").exists():
            mapping: dict[str, str] = self.read_json("model.safetensors.index.json")["weight_map"]
            return mapping
        found = {}
        for path in sorted(self.path.glob("*.safetensors")):
            try:
                with safe_open(self.file(path.name), framework="numpy") as tensors:
                    found.update(dict.fromkeys(tensors.keys(), path.name))
            except SafetensorError as error:
                raise DataError(f"Model: {path.name} cannot be read: {error}", where=str(path)) from None
        if not found:
            pickled = sorted(p.name for p in self.path.glob("*") if p.suffix in PICKLES)
            if pickled:
                raise DataError(
                    f"Model: {pickled[0]} is a pickled checkpoint; pickles are refused because loading one runs code from it",
                    where=str(self.path),
                    todo="convert it once where you trust it: AutoModel.from_pretrained(...).save_pretrained(..., safe_serialization=True)",
                )
            raise DataError("Model: no safetensors in the folder", where=str(self.path))
        return found

    def load(self, dtype: torch.dtype | None = None) -> nn.Module:
        """The module in evaluation mode on the CPU, in `dtype` (default: the stored one)."""
        import transformers

        for name in set(self.weight_files.values()):
            self.file(name)
        if OWN in self.config:
            return self._load_own(dtype)
        architecture = (self.config.get("architectures") or [""])[0]
        kind = getattr(transformers, architecture, None)
        if kind is None:
            raise UserError(f"Model: transformers {transformers.__version__} has no architecture {architecture!r}", where=str(self.path))
        if SHAPES in self.config:
            kind = shaped(kind, transformers.AutoConfig.from_pretrained(self.path, local_files_only=True, trust_remote_code=False))
        with quiet():
            module: Any = kind.from_pretrained(
                self.path, dtype=dtype or "auto", use_safetensors=True, local_files_only=True, trust_remote_code=False
            )
        loaded: nn.Module = module.eval()
        return loaded

    def _load_own(self, dtype: torch.dtype | None) -> nn.Module:
        """A module of ours: built from the knobs of its architecture, then filled."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        module = self.empty()
        state: dict[str, torch.Tensor] = {}
        try:
            for name in sorted(set(self.weight_files.values())):
                state |= load_file(self.path / name)
            module.load_state_dict(state, assign=True)
        except (SafetensorError, RuntimeError) as error:
            said = " ".join(str(error).split())[:300]
            raise DataError(f"Model: the weights do not fit the architecture of config.json: {said}", where=str(self.path)) from None
        return (module if dtype is None else module.to(dtype)).eval()

    def empty(self, spec: dict[str, Any] | None = None) -> nn.Module:
        """A module of our own architectures as config.json (or `spec`) describes it, with whatever weights `build` gives."""
        from paredown.core import catalog

        with torch_randomness_kept():
            built: Any = catalog.build(spec or self.config[OWN]).build(0, 0)
        built.architecture = spec or self.config[OWN]
        module: nn.Module = built
        return module

    @cached_property
    def training(self) -> dict[str, Any]:
        """What the training that made the weights spent: `tokens`, `flops`, `epochs`, `parameters`, `held_out_loss`.

        Raises:
            DataError: the folder does not say.
        """
        if not (self.path / TRAINING).exists():
            raise DataError(f"Model: no {TRAINING} in the folder", where=str(self.path), todo="give a model that learn.train made")
        loaded: dict[str, Any] = self.read_json(TRAINING)
        return loaded

    def note_training(self, facts: dict[str, Any]) -> None:
        """Write what `training` reads."""
        (self.path / TRAINING).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")

    def training_rows(self) -> polars.DataFrame:
        """What hooks noted of every row that was trained on, in the order of the rows.

        Raises:
            DataError: none did.
        """
        import polars

        if not (self.path / ROWS).exists():
            raise DataError(
                f"Model: no {ROWS} in the folder",
                where=str(self.path),
                todo="train with a hook that notes rows, such as learn.hooks.learning_events",
            )
        return polars.read_parquet(self.file(ROWS))

    def note_rows(self, rows: polars.DataFrame) -> None:
        """Write what `training_rows` reads."""
        rows.write_parquet(self.path / ROWS)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer that lies in the folder."""
        from transformers import AutoTokenizer

        loaded: Any = AutoTokenizer.from_pretrained(self.path, local_files_only=True, trust_remote_code=False)
        tokenizer: PreTrainedTokenizerFast = loaded
        return tokenizer

    def copy_processor(self, target: Path) -> None:
        """Copy the tokenizer's files to another model folder."""
        for name in PROCESSOR_FILES:
            if (self.path / name).exists():
                shutil.copyfile(self.file(name), target / name)

    @classmethod
    def save(cls, path: Path, module: nn.Module, processor: PreTrainedTokenizerFast | Model | None = None) -> Model:
        """Write a module and its tokenizer (or the tokenizer of another model folder).

        A module that is no class of transformers carries, as `module.architecture`, the architecture part's knobs
        (`{use: name, ...}`) that rebuild it.
        """
        path.mkdir(parents=True, exist_ok=True)
        if hasattr(module, "save_pretrained"):
            stock: Any = module
            with quiet():
                stock.save_pretrained(path)
        else:
            from safetensors.torch import save_model

            config = {"architectures": [type(module).__name__], OWN: module.architecture}
            (path / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
            save_model(module, str(path / "model.safetensors"), metadata={"format": "pt"})
        if isinstance(processor, Model):
            processor.copy_processor(path)
        elif processor is not None:
            processor.save_pretrained(path)
        return cls(path)

    def parameters(self) -> dict[str, int]:
        """`total` and `nonzero` weights, counted tensor by tensor from the files; what a module of ours keeps beside them is no weight.

        Tied weights count once, as they are stored once.
        """
        from safetensors import safe_open

        total = nonzero = 0
        for name in sorted(set(self.weight_files.values())):
            with safe_open(self.file(name), framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 - not a dict
                    if self._weights is not None and key not in self._weights:
                        continue
                    tensor = tensors.get_tensor(key)
                    total += tensor.numel()
                    nonzero += int(tensor.count_nonzero())
        return {"total": total, "nonzero": nonzero}

    @cached_property
    def _weights(self) -> set[str] | None:
        """Names of a module of ours under which weights are stored, not averages of batch norms; None where every tensor counts."""
        if OWN not in self.config:
            return None
        import torch

        with torch.device("meta"):  # no memory, no time
            return {name for name, _ in self.empty().named_parameters(remove_duplicate=False)}

    def summary(self) -> str:
        count = self.parameters()
        zero = 1 - count["nonzero"] / max(1, count["total"])
        text = f"{count['total'] / 1e6:.2f}M parameters"
        return f"{text}, {zero:.1%} zero" if zero > 0.001 else text
