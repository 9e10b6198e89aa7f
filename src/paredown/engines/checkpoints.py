"""Checkpoints of a training: one safetensors file whose name carries its own checksum.

A file is written beside its place, flushed to the disk and renamed, so a kill leaves the one before it; a torn or damaged
file does not match its name and is passed over. Random numbers need no saving: every step reseeds them from (seed, step).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from paredown.core.artifact import fsync, sha256

if TYPE_CHECKING:
    from torch import Tensor, nn

_NAME = re.compile(r"step-(\d{10})-([0-9a-f]{64})\.safetensors")
KEPT = 2  # the last one, and the one before it in case the disk lied


def whole(tensor: Tensor) -> Tensor:
    """A tensor on the CPU; a sharded one is gathered, which every process must take part in."""
    gather = getattr(tensor, "full_tensor", None)
    return (gather() if gather is not None else tensor).detach().to("cpu").contiguous()


def fill(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into `target`, in place; a sharded target takes its own part."""
    with torch.no_grad():
        if hasattr(target, "device_mesh"):
            from torch.distributed.tensor import distribute_tensor

            target.copy_(distribute_tensor(value.to(target.device), target.device_mesh, target.placements))  # type: ignore[attr-defined]
        else:
            target.copy_(value)


def module_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, a shared one once."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def gather(
    module: nn.Module, optimizer: torch.optim.Optimizer, kept: dict[str, dict[str, Tensor]]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a training, and the optimizer's plain values."""
    tensors = {f"module/{name}": whole(tensor) for name, tensor in module_tensors(module)}
    plain: dict[str, Any] = {}
    for name, parameter in module.named_parameters():
        for key, value in sorted(optimizer.state.get(parameter, {}).items()):
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer/{name}/{key}"] = whole(value)
            else:
                plain.setdefault(name, {})[key] = value
    for owner, items in kept.items():
        tensors.update({f"kept/{owner}/{name}": whole(tensor) for name, tensor in items.items()})
    return tensors, plain


def save(folder: Path, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Path:
    """Write a checkpoint and remove all but the last `KEPT`."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"draft-{os.getpid()}"
    save_file(tensors, draft, metadata={"facts": json.dumps(facts)})
    fsync(draft)
    path = folder / f"step-{step:010d}-{sha256(draft)}.safetensors"
    os.replace(draft, path)
    fsync(folder)
    for old in sorted(p for p in folder.iterdir() if _NAME.fullmatch(p.name))[:-KEPT]:
        old.unlink()
    for draft in folder.glob("draft-*"):  # left by a kill
        draft.unlink()
    return path


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that is what was written."""
    names = sorted((p.name for p in folder.glob("step-*.safetensors")), reverse=True) if folder.is_dir() else []
    for name in names:
        found = _NAME.fullmatch(name)
        if found and sha256(folder / name) == found.group(2):
            return folder / name
    return None


def facts(path: Path) -> dict[str, Any]:
    """The plain values of a checkpoint."""
    with safe_open(path, framework="pt") as opened:
        loaded: dict[str, Any] = json.loads(opened.metadata()["facts"])
    return loaded


def kept(path: Path) -> dict[str, dict[str, Tensor]]:
    """What hooks had put into the state to be kept."""
    found: dict[str, dict[str, Tensor]] = {}
    with safe_open(path, framework="pt") as opened:
        for key in opened.keys():  # noqa: SIM118 - not a dict
            kind, _, rest = key.partition("/")
            if kind == "kept":
                owner, _, name = rest.partition("/")
                found.setdefault(owner, {})[name] = opened.get_tensor(key)
    return found


def restore(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, plain: dict[str, Any]) -> None:
    """Put weights, buffers and the optimizer's state back, bit for bit; one tensor at a time is held beside them."""
    parameters = dict(module.named_parameters())
    with safe_open(path, framework="pt") as opened:
        for name, tensor in module_tensors(module):
            fill(tensor, opened.get_tensor(f"module/{name}"))
        for key in opened.keys():  # noqa: SIM118 - not a dict
            kind, _, rest = key.partition("/")
            if kind != "optimizer":
                continue
            name, _, item = rest.rpartition("/")
            parameter, value = parameters[name], opened.get_tensor(key)
            if value.shape == parameter.shape:
                state = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
                fill(state, value)
            else:  # counters and statistics of another shape
                state = value if value.ndim == 0 and not _counts_on_device(optimizer) else value.to(parameter.device)
            optimizer.state[parameter][item] = state
    for name, items in plain.items():
        optimizer.state[parameters[name]].update(items)


def _counts_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Fused and capturable optimizers keep their step counter beside the weights, the others on the CPU."""
    return any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)
