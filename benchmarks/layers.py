"""Wanda and SparseGPT side by side with llm-compressor: CPU seconds, memory, masks and errors, on a Llama of 33.5M parameters.

    python benchmarks/layers.py [--peer /path/to/llm-compressor-venv/bin/python] [--rounds 3] [--memory]

Every measurement is a child process of its own with one thread; rounds are interleaved. Both sides get the same model folder
(float32, random weights) and the same 8 sequences of 512 tokens, and write a model folder. The clock runs around the call alone:
reading and writing the model is inside it on both sides, imports are outside it, and a tiny model goes through first, so that
what either side imports or compiles late is outside too. CPU seconds are those of the process and its children. The floor is the forward
pass of the blocks over the same tokens, without a head and without reading or writing anything.

To make the peer's environment: python -m venv llmc-venv && llmc-venv/bin/pip install torch==2.13.0 llmcompressor==0.14.*
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SEQUENCES, LENGTH, SPARSITY = 8, 512, 0.5
SHAPE: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1360,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 8192,
}
TINY = {**SHAPE, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
OURS = ("forward", "wanda", "sparsegpt")
PEER = ("peer-wanda", "peer-sparsegpt")


# the input, made once in a process of its own -------------------------------------------------------------------------


def make(folder: Path, shape: dict[str, Any]) -> None:
    """A model folder with a tokenizer, the calibration tokens as an artifact and as .npy of (8, 512)."""
    import numpy as np
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    from paredown.artifacts.tokens import END_OF_TEXT, Tokens

    size = shape["vocab_size"]
    fast = Tokenizer(models.WordLevel({END_OF_TEXT: 0, **{f"w{k}": k for k in range(1, size)}}, unk_token=END_OF_TEXT))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    draw = np.random.default_rng(0)
    share = 1 / np.arange(1, size)
    ids = draw.choice(np.arange(1, size), size=SEQUENCES * LENGTH - 2, p=share / share.sum())
    tokens = Tokens.write(folder / "tokens", [(ids, ids.size * 4)], tokenizer=fast.to_str(), vocab_size=size)
    np.save(folder / "calibration.npy", np.asarray(tokens.ids).astype("int64").reshape(SEQUENCES, LENGTH))

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        max_position_embeddings=LENGTH, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0, pad_token_id=0, **shape
    )
    module = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "norm" in name:  # a trained model's features differ in scale; without that Wanda is magnitude pruning
                parameter.copy_(torch.exp(0.7 * torch.randn_like(parameter)))
    module.save_pretrained(folder / "model")
    transformers.PreTrainedTokenizerFast(tokenizer_object=fast, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT).save_pretrained(
        folder / "model"
    )


# what is measured, in a child -----------------------------------------------------------------------------------------


def forward(folder: Path, out: Path) -> Any:
    """Nothing is read inside: the function that the clock runs around."""
    import numpy as np
    import torch
    import transformers

    module = transformers.LlamaModel.from_pretrained(folder / "model", dtype=torch.float32)
    ids = torch.from_numpy(np.load(folder / "calibration.npy"))

    def run() -> None:
        with torch.no_grad():
            module(input_ids=ids, use_cache=False)

    return run


def ours(side: str, folder: Path, out: Path) -> Any:
    from paredown.artifacts.model import Model
    from paredown.artifacts.tokens import Tokens
    from paredown.core.context import Context, running
    from paredown.prune.sparsegpt import Sparsegpt
    from paredown.prune.wanda import Wanda

    kind = Wanda if side == "wanda" else Sparsegpt
    (out / "scratch").mkdir(parents=True)

    def run() -> None:
        with running(Context(folder=out, scratch=out / "scratch")):
            strategy = kind(sparsity=SPARSITY, calibration_tokens=SEQUENCES * LENGTH, length=LENGTH)
            strategy(Model(folder / "model"), Tokens(folder / "tokens"))

    return run


def peer(side: str, folder: Path, out: Path, batch: int) -> Any:
    """Runs in the peer's environment; imports nothing of ours."""
    import numpy as np
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier

    rows = np.load(folder / "calibration.npy")
    kind = WandaPruningModifier if side == "peer-wanda" else SparseGPTModifier

    def run() -> None:
        data = Dataset.from_dict({"input_ids": rows.tolist(), "attention_mask": np.ones_like(rows).tolist()})
        oneshot(
            model=str(folder / "model"),
            tokenizer=str(folder / "model"),
            tie_word_embeddings=False,
            dataset=data,
            recipe=[kind(sparsity=SPARSITY, ignore=["re:.*lm_head"])],
            num_calibration_samples=SEQUENCES,
            max_seq_length=LENGTH,
            batch_size=batch,
            save_compressed=False,
            output_dir=str(out / "model"),
        )

    return run


def prepared(side: str, folder: Path, out: Path, batch: int) -> Any:
    if side == "forward":
        return forward(folder, out)
    return peer(side, folder, out, batch) if side in PEER else ours(side, folder, out)


def child(side: str, folder: Path, out: Path, batch: int) -> None:
    """Print what one call took."""
    import torch

    torch.set_num_threads(1)
    prepared(side, folder / "tiny", out / "warm", batch)()
    run = prepared(side, folder, out, batch)
    before, watched = memory("VmRSS"), reset_peak()
    begun, cpu = time.perf_counter(), cpu_seconds()
    run()
    used, wall = cpu_seconds() - cpu, time.perf_counter() - begun
    peak = memory("VmHWM") if watched else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("\n" + json.dumps({"cpu": used, "wall": wall, "before": before / 1024, "peak": peak / 1024}))


def cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def memory(field: str) -> int:
    """KiB of resident memory, now (VmRSS) or at most since `reset_peak` (VmHWM); pages of mapped files count."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(rows[field].split()[0])


def reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


# both sides' results, in a child --------------------------------------------------------------------------------------


def compare(folder: Path, results: Path) -> None:
    """Print how the sides' masks agree and what each did to the outputs of layers, on the calibration tokens."""
    import numpy as np
    import torch
    import transformers
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    ids = torch.from_numpy(np.load(folder / "calibration.npy"))
    kept = [side for side in (*OURS[1:], *PEER) if (results / side).exists()]
    dense = load_file(folder / "model" / "model.safetensors")
    weights = {side: load_file(results / side / "model" / "model.safetensors") for side in kept}
    names = [name for name in dense if "_proj" in name]
    found: dict[str, Any] = {
        "zeros": {s: sum(int((w[n] == 0).sum()) for n in names) / sum(w[n].numel() for n in names) for s, w in weights.items()}
    }
    for method in ("wanda", "sparsegpt"):
        if f"peer-{method}" in weights:
            a, b = weights[method], weights[f"peer-{method}"]
            equal = {n: float(((a[n] == 0) == (b[n] == 0)).float().mean()) for n in names}
            found[f"{method}: equal mask entries"] = statistics.fmean(equal.values())
            first = [v for n, v in equal.items() if ".0." in n and n.split(".")[-2] in ("q_proj", "k_proj", "v_proj")]
            found[f"{method}: equal mask entries where inputs are the same"] = statistics.fmean(first)

    def seen(state: dict[str, Any], errors: dict[str, dict[str, float]] | None) -> Any:
        """The final states of a model; with `errors`, what each other model's layers would err on its layers' inputs."""
        module = transformers.LlamaForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
        module.load_state_dict(state)

        def hook(name: str) -> Any:
            def at(_: Any, args: Any, __: Any) -> None:
                x = args[0].reshape(-1, args[0].shape[-1])
                scale = (x @ dense[name].T).square().sum()
                for side, other in weights.items() if state is dense else [("own", state)]:
                    errors.setdefault(side, {})[name] = float((x @ (other[name] - dense[name]).T).square().sum() / scale)

            return at

        if errors is not None:
            for name, part in module.named_modules():
                if f"{name}.weight" in names:
                    part.register_forward_hook(hook(f"{name}.weight"))
        with torch.no_grad():
            return module(input_ids=ids).logits

    same: dict[str, dict[str, float]] = {}
    target = seen(dense, same)
    for side in kept:
        own: dict[str, dict[str, float]] = {}
        logits = seen(weights[side], own)
        nats = torch.nn.functional.kl_div(logits.log_softmax(-1), target.log_softmax(-1), log_target=True, reduction="sum") / ids.numel()
        found[f"{side}: relative error of a layer's output, mean"] = {
            "on the dense model's inputs": statistics.fmean(same[side].values()),
            "on its own inputs": statistics.fmean(own["own"].values()),
        }
        found[f"{side}: last state, relative error of logits; nats a token from the dense model"] = [
            float((logits - target).square().sum() / target.square().sum()),
            float(nats),
        ]
    print("\n" + json.dumps(found))


# the parent -----------------------------------------------------------------------------------------------------------


def spawn(python: str, *arguments: str) -> Any:
    """A child's last line, as JSON."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as here:  # the peer leaves its log where it runs
        command = [python, str(Path(__file__).resolve()), "--child", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=here)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def span(values: list[float], form: str = "{:8.2f}") -> str:
    return " ".join(form.format(f(values)) for f in (min, statistics.median, max))


def measure(folder: Path, sides: list[tuple[str, str]], rounds: int, batch: int) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {side: [] for _, side in sides}
    for number in range(rounds):
        for python, side in sides:
            out = folder / "results" / side if number == 0 else folder / f"round-{number}-{side}"
            found[side].append(spawn(python, side, str(folder), str(out), str(batch)))
            print(f"  round {number + 1}  {side:<15} {found[side][-1]['cpu']:7.2f} CPU s  load {os.getloadavg()[0]:.1f}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=os.environ.get("LLMCOMPRESSOR_PYTHON"), help="python of an environment with llm-compressor")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved runs of every side")
    parser.add_argument("--peer-batch", type=int, default=1, help="sequences in a batch of the peer; 1 is its default, we take all at once")
    parser.add_argument("--memory", action="store_true", help="peak memory of our side with 4, 16 and 32 blocks instead of times")
    parser.add_argument("--folder", type=Path, help="where input and output go; default a temporary folder")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        task, *rest = given.child
        if task == "make":
            make(Path(rest[0]), {**SHAPE, "num_hidden_layers": int(rest[1])})
            make(Path(rest[0]) / "tiny", TINY)
            print("{}")
        elif task == "compare":
            compare(Path(rest[0]), Path(rest[1]))
        else:
            child(task, Path(rest[0]), Path(rest[1]), int(rest[2]))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        if given.memory:
            memory_of_blocks(Path(temporary), given.rounds)
        else:
            times(Path(temporary), given.peer, given.rounds, given.peer_batch)


def times(folder: Path, python: str | None, rounds: int, batch: int) -> None:
    spawn(sys.executable, "make", str(folder), str(SHAPE["num_hidden_layers"]))
    sides = [(sys.executable, side) for side in OURS] + [(python, side) for side in PEER if python]
    found = measure(folder, sides, rounds, batch)
    print(f"\n{'':<24}CPU seconds: min, median, max    peak memory in MiB, of it before the call")
    for side, runs in found.items():
        print(f"{side:<24}{span([run['cpu'] for run in runs])}    {runs[0]['peak']:8.0f} {runs[0]['before']:8.0f}")
    print("\nratios within a round: min, median, max")
    for left, right in (("wanda", "forward"), ("sparsegpt", "forward"), ("wanda", "peer-wanda"), ("sparsegpt", "peer-sparsegpt")):
        if right in found:
            pairs = zip(found[left], found[right], strict=True)
            print(f"{left + ' / ' + right:<32}{span([a['cpu'] / b['cpu'] for a, b in pairs], '{:6.3f}')}")
    print()
    for name, value in spawn(sys.executable, "compare", str(folder), str(folder / "results")).items():
        print(f"{name}: {json.dumps(value)}")


def memory_of_blocks(folder: Path, rounds: int) -> None:
    print(f"{'blocks':>6} {'model MB':>9}  side        peak MiB: min, median, max    growth by the call: min, median, max")
    for blocks in (4, 16, 32):
        here = folder / str(blocks)
        spawn(sys.executable, "make", str(here), str(blocks))
        size = (here / "model" / "model.safetensors").stat().st_size / 1e6
        for side in OURS[1:]:
            runs = [spawn(sys.executable, side, str(here), str(here / f"{side}-{number}"), "1") for number in range(rounds)]
            peaks, growths = [run["peak"] for run in runs], [run["peak"] - run["before"] for run in runs]
            print(f"{blocks:>6} {size:9.0f}  {side:<10} {span(peaks, '{:8.0f}')}   {span(growths, '{:10.0f}')}", flush=True)


if __name__ == "__main__":
    main()
