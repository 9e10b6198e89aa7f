"""Inputs of each kind for the contract checks: sound, empty, one row, odd unicode, not a number."""

from __future__ import annotations

import math
import typing
from pathlib import Path
from typing import Any

import numpy

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.examples import Examples
from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.artifacts.tables import Column, Table, describe
from paredown.artifacts.tokens import END_OF_TEXT, Tokenizer, Tokens
from paredown.core import catalog
from paredown.core.artifact import Artifact
from paredown.core.strategy import Part, Strategy, alternatives
from paredown.engines.parts import Answerer

VOCAB = 300
SETTINGS: dict[str, dict[str, Any]] = {  # knobs that a strategy must be given; everything else runs with its defaults
    "learn.train": {"budget": {"steps": 6}, "batch_size": 4, "length": 32, "checkpoint_seconds": 0.01, "warmup": 0.1},
    "corpus.tokenize.bpe": {"vocab_size": VOCAB},
    "corpus.read.stdlib": {"limit": 20},
    "corpus.split": {"held_out": 0.3},
    "corpus.read.facts": {"names": 20, "documents": 40, "held_out": 10},
    "infer.generate": {"new_tokens": 8},
    "learn.growth.bert2bert": {"hidden_size": 48, "intermediate_size": 64, "layers": 3},
    "learn.growth.direct_copy": {"hidden_size": 48, "intermediate_size": 64, "layers": 3},
    "learn.growth.stack": {"layers": 3},
    "learn.hooks.random_depth": {"depths": [1, 2]},
    "prune.wanda": {"calibration_tokens": 512},
    "prune.sparsegpt": {"calibration_tokens": 512},
    "prune.channels": {"calibration_tokens": 512},
    "prune.cfsp": {"calibration_tokens": 512},
    "prune.flap": {"calibration_tokens": 512},
    "prune.wanda_sp": {"calibration_tokens": 512},
    "prune.experts": {"calibration_tokens": 512},
    "prune.layers": {"calibration_tokens": 512, "sparsity": 0.5},
    "infer.answerers.endpoint": {"base_url": "http://127.0.0.1:9/v1", "model": "m", "prices": {"prompt": 1.0, "completion": 2.0}},
    "infer.answerers.local": {"model": "$model"},
    "measure.choices": {"question": "label", "answer": "label", "options": ["0", "1", "2"], "items": 4},
    "infer.embedders.endpoint": {"base_url": "http://127.0.0.1:9/v1", "model": "m"},
    "measure.exact_match": {"question": "prompt", "answer": "prompt", "new_tokens": 4},
    "infer.embedders.sentence": {"model": "a-name-on-the-hub"},
    "corpus.read.prompts": {"fields": ["prompt"], "answer": "label", "options": ["0", "1", "2"], "documents": 5, "shots": 0},
    "measure.difference": {"metric": "m"},
    "measure.simulated_search": {"formats": 6, "items": 20, "calls": 60, "batch": 5, "repeats": 3},
    "measure.formatspread": {
        "fields": ["prompt"],
        "answer": "label",
        "options": ["0", "1", "2"],
        "formats": 3,
        "calls": 12,
        "items": 4,
        "batch": 2,
        "shots": 0,
    },
    "tune.reconstruct": {"calibration_tokens": 512, "length": 32, "steps": 4, "checkpoint_seconds": 0.01},
    "measure.first_token": {"batches": 1, "prompts": 3, "median": 8, "longest": 24, "new_tokens": 3, "repeats": 1},
    "measure.speed": {"length": 16, "new_tokens": 4, "repeats": 2},
}
KINDS = ("sound", "empty", "one", "odd", "nan")
OTHERWISE: dict[tuple[str, str], dict[str, Any]] = {  # knobs beside the above where another one of its `one_of` inputs is given
    ("learn.train", "examples"): {"objective": {"use": "learn.objectives.classification"}},
}
MIXTURES = ("prune.experts",)  # strategies that work on a mixture of experts
CLASSES = 3  # labels of the examples


def inputs(strategy: Strategy, kind: str, folder: Path, choice: str = "") -> dict[str, Any]:
    """All inputs of a strategy, optional ones too; of its `one_of` inputs only `choice`, or the first."""
    others = set(strategy.one_of) - {choice or next(iter(strategy.one_of), "")}
    annotations = type(strategy).signature().inputs
    found: dict[str, Any] = {}
    for name, annotation in annotations.items():
        if name in others:
            continue
        wanted = alternatives(annotation)
        many = next((kind_of for kind_of in wanted if typing.get_origin(kind_of) is tuple), None)
        data = next((kind_of for kind_of in typing.get_args(many) if kind_of in (Examples, Corpus)), None)
        if data is not None:
            found[name] = (make(data, kind, folder / f"input-{name}"),)
        elif many is not None and Scores in typing.get_args(many):
            found[name] = answered(folder / f"input-{name}", kind)
        elif many is not None:
            made = classifiers if examples_alone(annotations) else trainings
            found[name] = made(folder / f"input-{name}", kind)
        elif Model in wanted and (choice == "examples" or examples_alone(annotations)):
            found[name] = classifier(folder / f"input-{name}", kind)
            found[name].seal({"key": "contract"})
        elif Model in wanted and strategy.strategy_name() in MIXTURES:
            found[name] = model(folder / f"input-{name}", kind, experts=True)
            found[name].seal({"key": "contract"})
        else:
            kinds = [Examples] if choice == "examples" and Examples in wanted else wanted
            found[name] = make(kinds[0], kind, folder / f"input-{name}")
    return found


def examples_alone(annotations: dict[str, Any]) -> bool:
    """Whether a model must be a classifier: what it works on can only be examples."""
    kinds = [kind for annotation in annotations.values() for kind in alternatives(annotation)]
    return Examples in kinds and Tokens not in kinds and Answerer not in kinds


def settings(name: str, folder: Path) -> dict[str, Any]:
    """Knobs for a short run of a strategy."""
    if name == "corpus.read.files":
        path = folder / "input.jsonl"
        path.write_text('{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n')
        return {"path": str(path)}
    if name == "corpus.read.images":
        return {"path": str(pictures(folder / "pictures"))}
    if name == "corpus.read.tables":
        path = folder / "table.csv"
        path.write_text("age,city,target\n" + "".join(f"{n},{['north', 'south'][n % 3 % 2]},{n % 2}\n" for n in range(30)))
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


def trainings(folder: Path, kind: str) -> tuple[Model, ...]:
    """Models that say what their trainings spent and reached: three sizes, three lengths, after a known law."""
    grid = [(n, d) for n in (1e4, 3e4, 1e5) for d in (1e5, 3e5, 1e6)]
    many = {"empty": [], "one": grid[:1], "odd": [*grid, grid[0]]}.get(kind, grid)
    made = []
    for number, (n, d) in enumerate(many):
        loss = math.nan if kind == "nan" else 1.2 + 40 / n**0.4 + 90 / d**0.35
        counts = {"initial": int(n), "final": int(n), "average": n, "outside": 0}
        (folder / str(number)).mkdir(parents=True)
        made.append(Model(folder / str(number)))
        made[-1].note_training({"tokens": int(d), "parameters": counts, "held_out_loss": loss, "evaluations": evaluations(loss)})
        made[-1].seal({"key": "contract"})
    return tuple(made)


def evaluations(loss: float) -> list[dict[str, float]]:
    """Held-out evaluations of a training, as learn.train notes them."""
    return [{"step": n, "tokens": 100 * n, "flops": 1e6 * n, "loss": loss + 1 / n, "accuracy": 1 - 1 / (n + 1)} for n in (1, 2, 3)]


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
    first = len(vocabulary)
    gaps = [f"<extra_id_{i}>" for i in range(VOCAB - first)]
    vocabulary |= {name: first + i for i, name in enumerate(gaps)}
    fast = Fast(models.BPE(vocab=vocabulary, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens([END_OF_TEXT, *gaps])
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


def model(folder: Path, kind: str, experts: bool = False) -> Model:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    layers = {"one": 1}.get(kind, 2)
    shape: dict[str, Any] = {
        "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": layers, "num_attention_heads": 2,
        "max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
    }  # fmt: skip
    module: Any
    if experts:
        module = MixtralForCausalLM(MixtralConfig(**shape, num_key_value_heads=2, num_local_experts=4))
    else:
        module = LlamaForCausalLM(LlamaConfig(**shape))
    if kind == "nan":
        with torch.no_grad():
            (module.model.layers[0].mlp.experts.gate_up_proj[0] if experts else module.model.layers[0].mlp.up_proj.weight)[0, 0] = math.nan
    made = Model.save(folder, module)
    from transformers import PreTrainedTokenizerFast

    (folder / "t.json").write_text(tokenizer_text())
    PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "t.json"), bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    ).save_pretrained(folder)
    (folder / "t.json").unlink()
    if kind == "empty":
        (folder / "model.safetensors").unlink()
    made.note_training({"evaluations": evaluations(2.0)})
    return made


def scores(folder: Path, kind: str) -> Scores:
    rows = [] if kind == "empty" else [Score(subject="s", metric="m", value=1.0)]
    return Scores.write(folder, rows)


def answered(folder: Path, kind: str) -> tuple[Scores, ...]:
    """Three ways of answering the same 30 questions, the dearer the better, as measure.choices notes them."""
    import polars as pl

    made = []
    for way in range({"empty": 0, "one": 1}.get(kind, 3)):
        asked = 30 - (kind == "odd" and way == 2)
        values = {
            "accuracy": [math.nan if kind == "nan" and n == 3 else float(n % (4 - way) == 0) for n in range(asked)],
            "prompt_tokens": [10.0 * (way + 1) + n % 3 for n in range(asked)],
            "completion_tokens": [1.0] * asked,
            "money": [0.01 * (way + 1)] * asked,
        }
        rows = [Score(subject=str(way), metric=m, value=sum(v) / asked, unit="EUR a question" * (m == "money")) for m, v in values.items()]
        items = [{"metric": m, "item": n, "value": v, "weight": 1.0} for m, of in values.items() for n, v in enumerate(of)]
        made.append(Scores.write(folder / str(way), rows, pl.DataFrame(items)))
        made[-1].seal({"key": "contract"})
    return tuple(made)


def examples(folder: Path, kind: str) -> Examples:
    """Rows with a text, a label from 0 to 2, and the same numbers as an image of 2 x 3 pixels, as 6 features, or as cells of a table."""
    import polars as pl

    draw = numpy.random.default_rng(2)
    rows = {"empty": 0, "one": 1}.get(kind, 24)
    label = numpy.arange(rows) % CLASSES
    image = draw.integers(0, 50, (rows, 1, 2, 3)) + 100 * (label[:, None, None, None] == numpy.arange(3))
    features = image.reshape(rows, 6) / 100
    if kind == "odd":
        label[0], label[1] = -1, 10**6
    if kind == "nan":
        features[3, 2] = math.nan
    columns = [
        pl.Series("prompt", ["a"] * rows, dtype=pl.String),
        pl.Series("label", label, dtype=pl.Int64),
        pl.Series("image", image.astype(numpy.uint8), dtype=pl.Array(pl.UInt8, (1, 2, 3))),
        pl.Series("features", features, dtype=pl.Array(pl.Float64, 6)),
    ]
    cells = pl.DataFrame({**{name: features[:, n] for n, name in enumerate(NUMBERS)}, "shade": [f"tone {n % 2}" for n in range(rows)]})
    made = Examples.write(folder, pl.DataFrame([*columns, cells.to_struct("cells"), pl.Series("table", [0] * rows, dtype=pl.Int64)]))
    describe(folder, TABLE, table_words())
    return made


NUMBERS = [f"pixel {n}" for n in range(6)]
TABLE = (Table("pixels", (*(Column(name, "num") for name in NUMBERS), Column("shade", "cat")), tuple("abc")),)


def table_words() -> str:
    """`tokenizer.json` of the words in the table of the examples."""
    from paredown.engines.words import word_level

    return word_level([*"012345", "pixel", "shade", "tone"])


def classifier(folder: Path, kind: str) -> Model:
    """A perceptron for these examples."""
    import torch

    shape: Any = catalog.build({"use": "learn.models.mlp", "inputs": 6, "hidden": [4], "classes": CLASSES})
    torch.manual_seed(0)
    module = shape.build(0, 0)
    module.architecture = shape.spec()
    if kind == "nan":
        with torch.no_grad():
            module.head.weight[0, 0] = math.nan
    made = Model.save(folder, module)
    (folder / "tokenizer.json").write_text(table_words())
    if kind == "empty":
        (folder / "model.safetensors").unlink()
    return made


def classifiers(folder: Path, kind: str) -> tuple[Model, ...]:
    """Two perceptrons for these examples, with what their trainings noted of each row."""
    import polars as pl

    made = []
    for number in range(0 if kind == "empty" else 2):
        made.append(classifier(folder / str(number), kind))
        label = examples(folder / f"examples {number}", kind).frame()["label"]
        places = range(label.len())
        counts = {"seen": [4] * label.len(), "right": [n % 4 for n in places], "forgotten": [n % 3 for n in places]}
        made[-1].note_rows(pl.DataFrame({"label": label, **counts}))
        made[-1].seal({"key": "contract"})
    return tuple(made)


def pictures(folder: Path) -> Path:
    """A folder for each of two labels, and a file that is no image."""
    from PIL import Image

    draw = numpy.random.default_rng(3)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(draw.integers(0, 256, (4, 5, 3), dtype=numpy.uint8)).save(folder / name / f"{number}.png")
    (folder / "a" / "notes.txt").write_text("no image")
    return folder
