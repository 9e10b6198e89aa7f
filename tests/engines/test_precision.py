"""The precision that a machine and a module get, and that asking needs no torch while planning."""

from __future__ import annotations

import subprocess
import sys

import pytest

from paredown.core.errors import UserError
from paredown.engines import precision


def fake_cpu(monkeypatch, tmp_path, line: str) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nmodel name\t: some CPU\n{line}\nbogomips\t: 4800\n")
    monkeypatch.setattr(precision, "CPUINFO", file)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu sse2 avx2 fma", "fp32"),
        ("flags\t\t: fpu avx2 avx512f avx512bw", "fp32"),
        ("flags\t\t: fpu avx512f avx512_bf16", "bf16"),
        ("flags\t\t: fpu avx512f amx_tile amx_bf16 amx_int8", "bf16"),
        ("Features\t: fp asimd sve bf16", "bf16"),
        ("Features\t: fp asimd", "fp32"),
    ],
)
def test_auto_is_bf16_only_where_the_cpu_multiplies_it(monkeypatch, tmp_path, line, expected):
    fake_cpu(monkeypatch, tmp_path, line)
    assert precision.resolve_precision("auto", "cpu") == expected


def test_a_setting_is_obeyed_on_every_cpu(monkeypatch, tmp_path):
    fake_cpu(monkeypatch, tmp_path, "flags : avx2")
    assert precision.resolve_precision("bf16", "cpu") == "bf16"
    assert precision.resolve_precision("fp32", "cuda") == "fp32"
    with pytest.raises(UserError, match="fp16"):
        precision.resolve_precision("fp16", "cpu")


@pytest.mark.parametrize("faster", [True, False])
def test_where_features_cannot_be_read_a_probe_decides(monkeypatch, tmp_path, faster):
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(precision, "bf16_is_faster", lambda: faster)
    assert precision.resolve_precision("auto", "cpu") == ("bf16" if faster else "fp32")


def test_the_probe_runs():
    assert precision.bf16_is_faster.__wrapped__(64, 1) in (True, False)


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_is_asked_for_its_capability(monkeypatch, native, expected):
    monkeypatch.setattr(precision, "cuda_has_bf16", lambda: native)
    assert precision.resolve_precision("auto", "cuda") == expected


def test_auto_device_needs_a_driver_and_a_torch_built_for_it(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(precision, "NVIDIA", tmp_path)
    monkeypatch.setattr(precision, "torch_has_cuda", lambda: True)
    assert precision.resolve_device("auto") == "cpu"
    (tmp_path / "nvidia0").touch()
    assert precision.resolve_device("auto") == "cuda"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert precision.resolve_device("auto") == "cpu"
    assert precision.resolve_device("cuda:1") == "cuda:1"


def test_asking_at_plan_time_imports_no_torch():
    code = (
        "import sys\nfrom paredown.core.catalog import build\n"
        "train = build({'use': 'learn.train', 'budget': {'steps': 1}})\n"
        "print(train.external()['precision'])\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'numba', 'polars'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] in ("fp32", "bf16")
    assert done.stdout.split("\n")[1] == "[]"


@pytest.mark.parametrize(("hidden", "expected"), [(64, "fp32"), (128, "bf16")])
def test_a_narrow_model_learns_in_fp32_where_nothing_else_is_asked(monkeypatch, tmp_path, hidden, expected):
    """Casting costs more than small products win on a CPU; on a GPU, and where bf16 is asked for, nothing changes."""
    from torch import nn

    fake_cpu(monkeypatch, tmp_path, "flags : avx512_bf16")
    monkeypatch.setattr(precision, "cuda_has_bf16", lambda: True)
    module = nn.Sequential(nn.Embedding(1000, hidden), nn.LayerNorm(hidden), nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden))
    assert precision.width(module) == hidden
    assert precision.suited_precision("auto", "cpu", module) == expected
    assert precision.suited_precision("bf16", "cpu", module) == "bf16"
    assert precision.suited_precision("auto", "cuda", module) == "bf16"
    fake_cpu(monkeypatch, tmp_path, "flags : avx2")
    assert precision.suited_precision("auto", "cpu", module) == "fp32"


def test_width_is_that_of_matrices_and_kernels_alone():
    from torch import nn

    assert precision.width(nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.Linear(32, 10))) == 32
    assert precision.width(nn.LayerNorm(512)) == 0
