"""The weights of a model folder, a few tensors at a time: read by the module's names, written back under the file's.

A checkpoint may name tensors otherwise than the module does, or keep the experts of a layer apart that the module holds as
one tensor. `Layout` says for each parameter of the module which tensors of the files make it up.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from paredown.artifacts.model import Model
from paredown.core.errors import DataError, UserError

NAMES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
FORMATS = {dtype: name for name, dtype in NAMES.items()}


@dataclass(frozen=True)
class Piece:
    """One tensor of the files and the part of a parameter that it is: `parameter[index]`; an empty index is all of it."""

    key: str
    index: tuple[int | slice, ...] = ()


class Files:
    """Random access to the tensors of a model folder, checked against what was written; no tensor stays in memory."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.where = model.weight_files
        self._stack = ExitStack()
        self._open: dict[str, Any] = {}
        self._paths: dict[str, Path] = {}

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _file(self, key: str) -> Any:
        name = self.where[key]
        if name not in self._open:
            path = self.model.file(name)
            try:
                self._open[name] = self._stack.enter_context(safe_open(path, framework="pt"))
                self._paths[name] = path
            except SafetensorError as error:
                raise DataError(f"Model: {name} cannot be read: {error}", where=str(path)) from None
        return self._open[name]

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._file(key).get_slice(key).get_shape())

    def dtype(self, key: str) -> torch.dtype:
        return NAMES[self._file(key).get_slice(key).get_dtype()]

    def tensor(self, key: str) -> torch.Tensor:
        """One tensor as it is stored.

        Raises:
            DataError: it holds NaN or infinity; the message names it.
        """
        self._file(key)
        tensor = from_file(self._paths[self.where[key]], key)
        if tensor.is_floating_point() and not finite(tensor):
            bad = int((~torch.isfinite(tensor.float())).sum())
            raise DataError(
                f"Model: {key} holds {bad:,} weights that are NaN or infinite",
                where=str(self.model.path / self.where[key]),
                todo="train or download the model again",
            )
        return tensor


def from_file(path: Path, key: str) -> torch.Tensor:
    """One tensor of a safetensors file, mapped from it."""
    # a mapping of its own, gone with the tensor: what was read once of a mapped file counts as memory until it is unmapped
    with safe_open(path, framework="pt") as stored:
        tensor: torch.Tensor = stored.get_tensor(key)
    return tensor


def finite(tensor: torch.Tensor) -> bool:
    """Whether no value of a floating-point tensor is NaN or infinite."""
    if not tensor.numel():
        return True
    # NaN goes through minimum and maximum; one pass without a mask, fifteen times faster than asking each value
    ends = (tensor.float() if tensor.itemsize == 1 else tensor).aminmax()
    return bool(torch.isfinite(torch.stack(ends)).all())


def layout(module: Any, files: Files) -> dict[str, list[Piece]]:
    """For each parameter and persistent buffer of `module`: the tensors of the files that make it up.

    Names are matched as they stand, then with the base model's prefix, then by transformers' own table of conversions, of which
    renaming and stacked experts are understood.

    Raises:
        UserError: a parameter is in no file, or its conversion is of another kind.
    """
    wanted = {name: tuple(value.shape) for name, value in module.state_dict(keep_vars=True).items()}
    found: dict[str, list[Piece]] = {}
    prefix = f"{module.base_model_prefix}." if getattr(module, "base_model_prefix", "") else ""
    odd = []
    for key in files.where:
        name = next((n for n in (key, key.removeprefix(prefix), prefix + key) if n in wanted), None)
        if name is None:
            odd.append(key)
        else:
            found[name] = [Piece(key)]
    if any(name not in found for name in wanted):
        found |= _converted(module, files, odd, wanted, prefix)
    missing = sorted(name for name in wanted if name not in found)
    tied = {id(value): name for name, value in module.state_dict(keep_vars=True).items() if name in found}
    said = getattr(module, "all_tied_weights_keys", None) or {}  # without weights, tied parameters are no longer the same objects
    for name in missing:
        twin = tied.get(id(module.state_dict(keep_vars=True)[name]), said.get(name))
        if twin not in found:
            raise UserError(f"Model: no file holds {name}, a weight of {type(module).__name__}", where=str(files.model.path))
        found[name] = found[twin]
    return found


def _converted(module: Any, files: Files, keys: Iterable[str], wanted: dict[str, tuple[int, ...]], prefix: str) -> dict[str, list[Piece]]:
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter, WeightRenaming, rename_source_key

    table = get_model_conversion_mapping(module)
    renamings = [entry for entry in table if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in table if isinstance(entry, WeightConverter)]
    found: dict[str, list[Piece]] = {}
    stacked: dict[str, list[tuple[int, int, str]]] = {}  # parameter -> (expert, number of the source, key)
    for key in keys:
        renamed, pattern = rename_source_key(key, renamings, converters)
        name = next((n for n in (renamed, renamed.removeprefix(prefix), prefix + renamed) if n in wanted), None)
        if name is None:
            continue
        if pattern is None:
            found[name] = [Piece(key)]
            continue
        entry = next(c for c in converters if pattern in c.source_patterns)
        kinds = [type(operation) for operation in entry.operations]
        if (
            kinds not in ([MergeModulelist], [MergeModulelist, Concatenate])
            or [getattr(o, "dim", None) for o in entry.operations] != [0, 1][: len(kinds)]
        ):
            raise UserError(f"Model: {key} is stored in a layout that block-by-block work does not know", where=str(files.model.path))
        number = re.search(pattern.replace(".", r"\.").replace("*", r"(\d+)"), key)
        expert = int(number.group(1)) if number else int(re.findall(r"\.(\d+)\.", key)[-1])
        stacked.setdefault(name, []).append((expert, entry.source_patterns.index(pattern), key))
    for name, rows in stacked.items():
        pieces, begin, last = [], 0, -1
        for expert, _, key in sorted(rows):
            begin = begin if expert == last else 0
            size = files.shape(key)[0]
            pieces.append(Piece(key, (expert, slice(begin, begin + size))))
            begin, last = begin + size, expert
        found[name] = pieces
    return found


def read(
    get: Callable[[str], torch.Tensor], pieces: list[Piece], like: torch.Tensor, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """The parameter that `pieces` make up, of the shape of `like`; `get` gives a stored tensor by its key.

    Raises:
        UserError: the shapes do not fit: the folder's config.json describes another model.
    """
    if not pieces[0].index:
        tensor = get(pieces[0].key)
        if tensor.shape != like.shape:
            raise UserError(f"Model: {pieces[0].key} has the shape {tuple(tensor.shape)}, but config.json asks for {tuple(like.shape)}")
        return tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype, copy=True)
    whole = torch.empty(like.shape, dtype=dtype, device=device)
    for piece in pieces:
        whole[piece.index] = get(piece.key).to(device, dtype)
    return whole


def save_block(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write a finished block's tensors so that a kill leaves all of them or none."""
    part = path.with_suffix(".part")
    save_file({key: tensor.contiguous().cpu() for key, tensor in tensors.items()}, part)
    part.rename(path)


@dataclass(frozen=True)
class Cut:
    """Keep only these indices of one dimension; -1 stands for zeros."""

    dim: int
    kept: torch.Tensor  # int64


Cuts = dict[str, list[Cut]]  # of each tensor that loses something, by its name


def write_model(
    folder: Path,
    files: Files,
    changed: dict[str, Path],
    config: dict[str, Any],
    cuts: Cuts | None = None,
    names: dict[str, str | None] | None = None,
    added: dict[str, Path] | None = None,
) -> Model:
    """A copy of a model folder with some tensors taken from other safetensors files; memory holds one tensor.

    `changed` maps a key to the file that holds its new tensor; `cuts` says what is kept of a tensor's dimensions; `names` gives
    tensors new names, and those without one are left out; `added` are new tensors and the files that hold them; `config` is
    the new config.json. The names of the weight files stay.

    Raises:
        UserError: two tensors would have the same name.
    """
    model = files.model
    where: dict[str, dict[str, _Source]] = {name: {} for name in sorted(set(files.where.values()))}
    for key, name in files.where.items():
        new = (names or {}).get(key, key)
        if new is not None:
            if any(new in held for held in where.values()):
                raise UserError(f"Model: two tensors would be called {new}", where=str(model.path))
            where[name][new] = _Source(files, key, changed.get(key), tuple((cuts or {}).get(key, ())))
    for key, path in (added or {}).items():
        where[max(where)][key] = _Source(files, key, path)
    where = {name: held for name, held in where.items() if held}
    sizes = sum(_write_file(folder / name, held) for name, held in where.items())
    index = model.path / "model.safetensors.index.json"
    if index.exists():
        mapping = json.loads(model.file(index.name).read_bytes())
        mapping.setdefault("metadata", {})["total_size"] = sizes
        mapping["weight_map"] = {key: name for name, held in where.items() for key in held}
        (folder / index.name).write_text(json.dumps(mapping, indent=2, sort_keys=True) + "\n")
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    if (model.path / "generation_config.json").exists():
        (folder / "generation_config.json").write_bytes(model.file("generation_config.json").read_bytes())
    model.copy_processor(folder)
    return Model(folder)


@dataclass(frozen=True)
class _Source:
    """Where a written tensor comes from: the model's files or another one, and what is kept of it."""

    files: Files
    key: str
    path: Path | None = None
    cuts: tuple[Cut, ...] = ()

    def slot(self) -> tuple[str, list[int]]:
        """Its number format and shape."""
        if self.key in self.files.where:
            dtype, shape = self.files.dtype(self.key), list(self.files.shape(self.key))
        else:
            stored = self.tensor()
            dtype, shape = stored.dtype, list(stored.shape)
        for cut in self.cuts:
            shape[cut.dim] = len(cut.kept)
        return FORMATS[dtype], shape

    def tensor(self) -> torch.Tensor:
        tensor = from_file(self.path, self.key) if self.path else self.files.tensor(self.key)
        for cut in self.cuts:
            tensor = tensor.index_select(cut.dim, cut.kept.clamp(min=0))
            tensor.index_fill_(cut.dim, (cut.kept < 0).nonzero().flatten(), 0)
        return tensor


def _write_file(path: Path, held: dict[str, _Source]) -> int:
    """One safetensors file, tensor after tensor: 8 bytes of header length, the header in JSON, then the data."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    slots = {key: source.slot() for key, source in held.items()}
    offset = 0
    ordered = sorted(held, key=lambda key: (-NAMES[slots[key][0]].itemsize, key))  # the widest first keeps all of them aligned
    for key in ordered:
        dtype, shape = slots[key]
        size = NAMES[dtype].itemsize * torch.Size(shape).numel()
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for key in ordered:
            stream.write(held[key].tensor().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return offset


def block_tensors(parameters: dict[str, torch.Tensor], pieces: dict[str, list[Piece]], files: Files) -> Iterator[tuple[str, torch.Tensor]]:
    """What the files hold of these parameters, in the number format that it is stored in."""
    for name, value in parameters.items():
        for piece in pieces[name]:
            yield piece.key, (value[piece.index] if piece.index else value).to(files.dtype(piece.key))
