"""A model that exists already, from a folder or from the Hugging Face hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, ClassVar

from paredown.artifacts.model import PICKLES, Model
from paredown.core.context import context
from paredown.core.errors import DataError, MachineError, UserError
from paredown.core.strategy import Strategy

KEPT = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")  # configuration, weights, tokenizer; never code or pickles


def fetch(name: str, revision: str) -> Path:
    """The folder of a hub model's snapshot; without its code and pickles."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(KEPT)))
    except HFValidationError as error:
        raise UserError(
            f"{name!r} is neither a folder nor a name on the hub: {error}", todo="give a path, or a name such as owner/model"
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise MachineError(
            f"the hub did not give {name}: {type(error).__name__}",
            where=str(error).splitlines()[0],
            todo="check the name and the network, or give a folder",
        ) from None


class Pretrained(Strategy):
    """Take a model from a local folder, or by name from the Hugging Face hub.

    Only safetensors are taken: a pickled checkpoint runs code when it is loaded, and is refused. No code comes with a model.

    Source: none (ours).
    Costs: a copy on the disk; a download where a hub name is given.
    Control: none (nothing is changed).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-weights", "speedup-none")
    extras: ClassVar[tuple[str, ...]] = ("train",)

    source: str  # a folder that save_pretrained wrote, or owner/name on the hub
    revision: str = ""  # commit, tag or branch on the hub; the newest where empty, so name one for runs to be repeated

    def external(self) -> Any:
        """Names, sizes and times of a local folder's files; the name alone for the hub."""
        folder = Path(self.source).expanduser()
        if not folder.is_dir():
            return {"hub": self.source}
        return [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(folder.iterdir()) if p.is_file()]

    def __call__(self) -> Model:
        """The model's folder with configuration, safetensors and tokenizer.

        Raises:
            DataError: there are no safetensors, only a pickled checkpoint, or a file that cannot be read.
            UserError: neither a folder nor a name.
        """
        folder = Path(self.source).expanduser()
        if not folder.is_dir():
            if folder.is_absolute() or self.source.startswith((".", "~")):
                raise UserError(f"there is no folder {self.source}", todo="give a folder that save_pretrained wrote")
            folder = fetch(self.source, self.revision)
        found = Model(folder)
        if not found.config or not found.weight_files:
            raise DataError("the model holds no weights", where=str(folder))
        target = context().output("model")
        for path in sorted({p for pattern in KEPT for p in folder.glob(pattern)}):
            if path.suffix not in PICKLES and path.name != "artifact.json":
                shutil.copyfile(path, target / path.name)
        return Model(target)
