"""Inputs of each kind for the contract checks: sound, empty, one row, odd unicode, not a number."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.artifacts.tokens import END_OF_TEXT, Tokenizer, Tokens
from paredown.core import catalog
from paredown.core.artifact import Artifact
from paredown.core.strategy import Part

VOCAB = 300
SETTINGS: dict[str, dict[str, Any]] = {  # knobs that a strategy must be given; everything else runs with its defaults
    "learn.train": {"budget": {"steps": 6}, "batch_size": 4, "length": 32, "checkpoint_seconds": 0.01, "warmup": 0.1},
    "corpus.tokenize.bpe": {"vocab_size": VOCAB},
    "corpus.read.stdlib": {"limit": 20},
    "corpus.split": {"held_out": 0.3},
    "infer.generate": {"new_tokens": 8},
    "prune.wanda": {"calibration_tokens": 512},
    "prune.sparsegpt": {"calibration_tokens": 512},
    "prune.channels": {"calibration_tokens": 512},
    "measure.speed": {"length": 16, "new_tokens": 4, "repeats": 2},
}
KINDS = ("sound", "empty", "one", "odd", "nan")


def settings(name: str, folder: Path) -> dict[str, Any]:
    """Knobs for a short run of a strategy."""
    if name == "corpus.read.files":
        path = folder / "input.jsonl"
        path.write_text('{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n')
        return {"path": str(path)}
    if name == "learn.models.pretrained":
        return {"source": str(model(folder / "pretrained", "sound").path)}
    return SETTINGS.get(name, {})


def make(annotation: Any, kind: str, folder: Path) -> Artifact | Part:
    """An input of the annotated type."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        built = catalog.build({"use": "learn.models.llama", "hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 48})
        assert isinstance(built, annotation)
        return built
    makers = {Corpus: corpus, Tokens: tokens, Model: model, Scores: scores, Examples: examples, Tokenizer: tokenizer}
    made: Artifact = makers[annotation](folder, kind)
    made.seal({"key": "contract"})
    return made


def corpus(folder: Path, kind: str) -> Corpus:
    def body(n: int) -> str:
        return "\n".join(f"    total_{n} += value_{n}_{i} * {i + n}  # the {n * 31 + i}th of all values so far" for i in range(12))

    texts = [
        f"def function_{n}(items_{n}):\n    total_{n} = 0\n{body(n)}\n    return total_{n} + {n * 7919 % 1000}\n\n\nclass Name{n}:\n    pass\n"
        for n in range(24)
    ]
    many = {
        "sound": [*texts, texts[3], texts[5] + "\n# one more line\n"],
        "empty": [],
        "one": texts[:1],
        "odd": [
            "",
            " ",
            "\u0000",
            "\ufeff",
            "e\u0301\u0301" * 50,
            "\U0001f600" * 40,
            "\u202e abc",
            "x" * 5000,
            "\r\n\r\n",
            "汉字" * 300,
            END_OF_TEXT * 3,
            *texts[:4],
        ],
        "nan": ["nan", "NaN", "inf"],
    }
    return Corpus.from_texts(folder, many[kind])


def tokenizer_text() -> str:
    from tokenizers import Tokenizer as Fast
    from tokenizers import decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {END_OF_TEXT: 0, **{c: i + 1 for i, c in enumerate(alphabet)}}
    vocabulary |= {f"<unused{i}>": i for i in range(len(vocabulary), VOCAB)}
    fast = Fast(models.BPE(vocab=vocabulary, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens([END_OF_TEXT])
    return str(fast.to_str())


def tokens(folder: Path, kind: str) -> Tokens:
    draw = numpy.random.default_rng(1)
    lengths = {"sound": [60, 90, 12, 200, 33, 150, 70, 128, 5, 400] * 3, "empty": [], "one": [40], "odd": [0, 1, 2, 500], "nan": [0]}[kind]
    # words of a small grammar rather than noise, so that a model can learn something
    rows = [(1 + (numpy.cumsum(draw.integers(1, 4, n)) % (VOCAB - 1)), n) for n in lengths]
    return Tokens.write(folder, rows, tokenizer=tokenizer_text(), vocab_size=VOCAB)


def tokenizer(folder: Path, kind: str) -> Tokenizer:
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(tokenizer_text())
    return Tokenizer(folder)


def model(folder: Path, kind: str) -> Model:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    layers = {"one": 1}.get(kind, 2)
    module = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=2, max_position_embeddings=128,
            bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )
    )  # fmt: skip
    if kind == "nan":
        with torch.no_grad():
            module.model.layers[0].mlp.up_proj.weight[0, 0] = math.nan
    made = Model.save(folder, module)
    from transformers import PreTrainedTokenizerFast

    (folder / "t.json").write_text(tokenizer_text())
    PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "t.json"), bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    ).save_pretrained(folder)
    (folder / "t.json").unlink()
    if kind == "empty":
        (folder / "model.safetensors").unlink()
    return made


def scores(folder: Path, kind: str) -> Scores:
    rows = [] if kind == "empty" else [Score(subject="s", metric="m", value=1.0)]
    return Scores.write(folder, rows)


def examples(folder: Path, kind: str) -> Examples:
    import polars

    return Examples.write(folder, polars.DataFrame({"prompt": [] if kind == "empty" else ["a"]}, schema={"prompt": polars.String}))
