"""What removed channels and heads are worth in time: prefill and decode of a Llama shape of 33.5M parameters, dense and without them.

    python benchmarks/structure.py [--rounds 9] [--threads 1]

The models are made by this package from one dense model of random weights (float32) and loaded as it loads them: `half` has half of the
feed-forward channels and half of the heads of every block, `channels` half of the channels only, `uneven` as many channels as `channels`
but different numbers in each block (CFSP), `uniform` is the same model filled up with zeros. All are timed in one process, in rounds:
each round times every model once, every second round in reverse order; a ratio is one of times within a round, and the median
over the rounds counts. Prefill reads 4 prompts of 256 tokens, decode adds 32 tokens to one prompt of 64; both are the package's own greedy loop
over a key-value cache, which computes the last position's logits only. Beside the ratios stand those of the weights in the blocks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

SHAPE: dict[str, Any] = {
    "hidden_size": 512, "intermediate_size": 1360, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 8192,
    "max_position_embeddings": 512, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
PROMPTS, LENGTH, PROMPT, NEW = 4, 256, 64, 32
TARGETS = {"prefill": 1.7, "decode": 1.4}  # of `half`


def models(folder: Path) -> dict[str, Any]:
    """The dense model and the smaller ones, as artifacts."""
    import numpy as np
    import torch
    import transformers
    from tokenizers import Tokenizer
    from tokenizers import models as kinds

    from paredown.artifacts.model import Model
    from paredown.artifacts.tokens import END_OF_TEXT, Tokens
    from paredown.core.context import Context, running
    from paredown.prune.cfsp import Cfsp
    from paredown.prune.channels import Channels

    torch.manual_seed(0)
    size = SHAPE["vocab_size"]
    words = Tokenizer(kinds.WordLevel({END_OF_TEXT: 0, **{f"w{k}": k for k in range(1, size)}}, unk_token=END_OF_TEXT))
    ids = np.random.default_rng(0).integers(1, size, 4096)
    tokens = Tokens.write(folder / "tokens", [(ids, ids.size * 4)], tokenizer=words.to_str(), vocab_size=size)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT)
    dense = Model.save(folder / "dense", transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE)), fast)
    calibrated: dict[str, Any] = {"sparsity": 0.5, "calibration_tokens": 2048, "length": 256}
    # angles of random weights differ little: a large steepness makes the widths as different as those of a trained model
    made = {
        "half": lambda: Channels(sparsity=0.5, heads=0.5, score="weights")(dense),
        "channels": lambda: Channels(sparsity=0.5, score="weights")(dense),
        "uneven": lambda: Cfsp(steepness=30, multiple_of=4, **calibrated)(dense, tokens),
        "uniform": lambda: Cfsp(steepness=30, multiple_of=4, uniform=True, **calibrated)(dense, tokens),
    }
    found = {"dense": dense}
    for name, make in made.items():
        (folder / f"{name}-scratch").mkdir()
        with running(Context(folder / name, folder / f"{name}-scratch", 0, name)):
            found[name] = make()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    import torch

    from paredown.artifacts.block_shapes import SHAPES
    from paredown.engines.generation import timed_decode

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        artifacts = models(Path(temporary))
        loaded: dict[str, Any] = {name: model.load() for name, model in artifacts.items()}
        widths = {name: model.config.get(SHAPES, {}).get("layers", {}).get("widths") for name, model in artifacts.items()}
        count = {name: model.parameters()["total"] for name, model in artifacts.items()}
    many = (torch.arange(PROMPTS * LENGTH) * 7919 % SHAPE["vocab_size"]).view(PROMPTS, LENGTH)
    one = many[:1, :PROMPT]
    times: dict[str, dict[str, list[float]]] = {name: {"prefill": [], "decode": []} for name in loaded}
    for number in range(-1, options.rounds):  # the first round warms up
        for name in list(loaded)[:: -1 if number % 2 else 1]:
            prefill, decode = timed_decode(loaded[name], many, 1).prefill, timed_decode(loaded[name], one, NEW + 1).decode
            if number >= 0:
                times[name]["prefill"].append(prefill)
                times[name]["decode"].append(decode / NEW)
    print(
        f"{options.rounds} rounds, {options.threads} thread(s), load {os.getloadavg()[0]:.1f}; ratios to dense within a round: min, median, max"
    )
    print(f"{'':10}{'parameters':>12}{'in blocks':>11}{'ms prefill':>12}{'ms a token':>12}   prefill             decode")
    ratios: dict[str, dict[str, float]] = {}
    outside = 2 * SHAPE["vocab_size"] * SHAPE["hidden_size"]
    for name in loaded:
        shown, ratios[name] = [], {}
        for kind in ("prefill", "decode"):
            found = sorted(dense / mine for dense, mine in zip(times["dense"][kind], times[name][kind], strict=True))
            ratios[name][kind] = statistics.median(found)
            shown.append(f"{found[0]:.2f}, {ratios[name][kind]:.2f}, {found[-1]:.2f}")
        blocks = (count["dense"] - outside) / (count[name] - outside)
        spent = [1e3 * statistics.median(times[name][kind]) for kind in ("prefill", "decode")]
        print(f"{name:10}{count[name]:>12,}{blocks:>10.2f}x{spent[0]:>12.1f}{spent[1]:>12.2f}   {shown[0]:20}{shown[1]}")
    print(f"widths of uneven: {json.dumps(widths['uneven'])}")
    for kind, target in TARGETS.items():
        print(f"half, {kind}: {ratios['half'][kind]:.2f} (target {target}): {'reached' if ratios['half'][kind] >= target else 'MISSED'}")


if __name__ == "__main__":
    main()
