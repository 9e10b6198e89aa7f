"""UL2's mixture in the trainer: losses by family, both architectures, prefixes, resuming, what was processed."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as tiny
import torch
from pydantic import ValidationError

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import Tokens
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.core.errors import UserError
from paredown.engines import encoder_decoders
from paredown.engines.batches import counted, randomness
from paredown.engines.byte_pairs import extended
from paredown.engines.parts import Hook
from paredown.engines.training import State
from paredown.learn.objectives.mixture_of_denoisers import MIXTURES, MODES, MixtureOfDenoisers

T5 = {"use": "learn.models.t5", "hidden_size": 16, "heads": 2, "layers": 1}
LLAMA = {"use": "learn.models.llama", "hidden_size": 16, "heads": 2, "layers": 1, "max_length": 128}


def tokens(folder: Path, sentinels: int = 40, special: tuple[str, ...] = ("[NLU]", "[S2S]", "[NLG]"), count: int = 3000) -> Tokens:
    vocabulary = extended(tiny.byte_tokenizer(), [*(f"<extra_id_{n}>" for n in range(sentinels)), *special])
    ids = 1 + np.cumsum(np.random.default_rng(0).integers(0, 3, count)) % 250
    size = tiny.VOCABULARY + sentinels + len(special)
    return Tokens.write(folder, [(ids[: count // 2], count // 2), (ids[count // 2 :], count // 2)], tokenizer=vocabulary, vocab_size=size)


def train(folder: Path, data: Tokens, shape: dict[str, Any], **knobs: Any) -> tuple[Model, dict[str, Any]]:
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    objective = {"use": "learn.objectives.mixture_of_denoisers", "attention": "encoder_decoder" if shape is T5 else "prefix"}
    knobs = {"budget": {"steps": 6}, "length": 64, "batch_size": 6, "log_every": 1, "checkpoint_seconds": 1e-9, **knobs}
    knobs["objective"] = {**objective, **knobs.get("objective", {})}
    step = Context(folder / "out", folder / "scratch", 0)
    with running(step):
        return build({"use": "learn.train", "device": "cpu", **knobs})(build(shape), tokens=data, held_out=data), step.facts


def digest(model: Model) -> str:
    return hashlib.sha256((model.path / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("shape", [T5, LLAMA], ids=["t5", "llama"])
def test_both_architectures_learn_and_tell_the_loss_of_each_family(shape: dict[str, Any], tmp_path: Path) -> None:
    model, facts = train(tmp_path, tokens(tmp_path / "tokens"), shape, budget={"steps": 70}, learning_rate=3e-2)
    curves = facts["curves"]
    for family in "RSX":
        assert curves[f"loss_{family}"][-1][2] < curves[f"loss_{family}"][0][2] - 0.3
        assert len(curves[f"held_out_loss_{family}"]) == 1
    assert encoder_decoders.modes(model.load()) == MODES
    assert encoder_decoders.reads_both_ways(model.load()) == (shape is LLAMA)
    spent = facts["training"]
    assert 0.97 * 64 * 6 * 70 < spent["processed"] <= 64 * 6 * 70
    assert spent["tokens"] < 0.5 * spent["processed"]
    assert [found["spans"] for found in facts["denoisers"]] == [3, 2, 0, 8, 3, 2, 2]


@pytest.mark.parametrize("shape", [T5, LLAMA], ids=["t5", "llama"])
def test_the_loss_is_that_of_each_example_alone(shape: dict[str, Any], tmp_path: Path) -> None:
    data = tokens(tmp_path / "tokens")
    objective = MixtureOfDenoisers(attention="encoder_decoder" if shape is T5 else "prefix", together=3)
    source: Any = objective.rows(data, 64)
    torch.manual_seed(0)
    module = build(shape).build(data.vocab_size, 0).eval()
    objective.prepare(module)
    found = source.corrupted(np.arange(11), randomness(0, 0))
    batch = {name: torch.from_numpy(value) for name, value in source.fill(np.arange(11), randomness(0, 0)).items()}
    loss, predicted, parts = objective.loss(module, {**batch, "predicted": counted(source.fill(np.arange(11), randomness(0, 0)))})
    sums: dict[int, list[float]] = {}
    for size, made, inputs, targets, family in zip(found.sizes, found.made, found.inputs, found.targets, found.family, strict=True):
        read, wanted = torch.from_numpy(inputs[:size])[None], torch.from_numpy(targets[:made])
        with torch.no_grad():
            if shape is T5:
                logits = module(input_ids=read, decoder_input_ids=torch.cat([torch.zeros(1, dtype=torch.long), wanted[:-1]])[None]).logits[
                    0
                ]
            else:
                ids = torch.cat([read, wanted[None, :-1]], dim=1)
                logits = encoder_decoders.decoder_logits(module, ids, torch.tensor([int(size)]))[0, size - 1 :]
        sums.setdefault(int(family), []).extend(torch.nn.functional.cross_entropy(logits, wanted, reduction="none").tolist())
    everything = [value for some in sums.values() for value in some]
    assert predicted == len(everything) == found.made.sum()
    assert float(loss.detach()) == pytest.approx(np.mean(everything), rel=1e-5)
    for number, family in enumerate("RSX"):
        mean, n = parts[f"loss_{family}"]
        assert n == len(sums.get(number, []))
        assert float(mean) == pytest.approx(np.mean(sums[number]) if n else 0, rel=1e-5)


@pytest.mark.parametrize("attention", ["prefix", "causal"])
def test_later_targets_change_nothing_before_them_and_later_inputs_do_where_they_may(attention: Any, tmp_path: Path) -> None:
    data = tokens(tmp_path / "tokens")
    objective = MixtureOfDenoisers(attention=attention, mixture="prefix_lm")
    torch.manual_seed(0)
    module = build(LLAMA).build(data.vocab_size, 0).eval()
    objective.prepare(module)
    batch = {name: torch.from_numpy(value) for name, value in objective.rows(data, 64).fill(np.arange(4), randomness(0, 1)).items()}
    row = int(((batch["prefix"] > 8) & (batch["prefix"] < 50)).nonzero()[0])
    prefix = int(batch["prefix"][row])

    def logits(place: int | None) -> Any:
        ids = batch["ids"].clone()
        if place is not None:
            ids[row, place] = 77
        with torch.no_grad():
            found = encoder_decoders.denoising_logits(module, {**batch, "ids": ids}, prefix=attention == "prefix")
        return found[row]

    for place in (prefix, prefix + 5):
        torch.testing.assert_close(logits(place)[:place], logits(None)[:place], rtol=1e-5, atol=1e-5)
    for place in (3, prefix - 1):
        assert not torch.allclose(logits(place)[prefix:], logits(None)[prefix:], atol=1e-6), "targets see all of the input"
    changed = not torch.allclose(logits(prefix - 2)[0], logits(None)[0], atol=1e-6)  # the first position sees the end of the input
    assert changed == (attention == "prefix")


class StopAfter(Hook):
    at: int

    def step(self, state: State) -> None:
        if state.step == self.at:
            signal.raise_signal(signal.SIGINT)  # the loop takes a checkpoint and stops


@pytest.mark.parametrize("shape", [T5, LLAMA], ids=["t5", "llama"])
def test_killed_and_resumed_is_bit_for_bit_the_same(shape: dict[str, Any], tmp_path: Path) -> None:
    data = tokens(tmp_path / "tokens")
    whole, facts = train(tmp_path / "whole", data, shape)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", data, shape, hooks=[StopAfter(at=3)])
    again, resumed = train(tmp_path / "killed", data, shape)
    assert resumed["resumed_at"] == 3
    assert digest(whole) == digest(again)
    assert facts["curves"] == resumed["curves"]
    assert facts["training"] == resumed["training"]


def test_a_budget_of_tokens_is_one_of_targets(tmp_path: Path) -> None:
    data = tokens(tmp_path / "tokens")
    for mixture in ("ul2", "span_corruption"):
        _, facts = train(tmp_path / mixture, data, T5, budget={"tokens": 700}, objective={"mixture": mixture})
        assert facts["training"]["tokens"] == 700


def test_published_mixtures() -> None:
    ul2 = [(d.family, d.mean, d.rate, d.weight) for d in MIXTURES["ul2"] if d.family != "S"]
    assert ul2 == [("R", 3, 0.15, 1), ("R", 8, 0.15, 1), ("X", 3, 0.5, 1), ("X", 8, 0.5, 1), ("X", 64, 0.15, 1), ("X", 64, 0.5, 1)]
    for mixture, shares in (("ul2", (2 / 7, 1 / 7, 4 / 7)), ("ul2r", (0.25, 0.5, 0.25))):
        total = sum(d.weight for d in MIXTURES[mixture])
        assert tuple(sum(d.weight for d in MIXTURES[mixture] if d.family == f) / total for f in "RSX") == pytest.approx(shares)


def test_kinds_that_are_degenerate_in_short_chunks_are_scaled_or_dropped(tmp_path: Path) -> None:
    data = tokens(tmp_path / "tokens", sentinels=100, count=3000)
    long = [(k.mean, k.rate, k.spans[1]) for k in MixtureOfDenoisers().kinds(data, 512) if k.mean > 8]
    assert long == [(64, 0.15, 1), (64, 0.5, 4)]  # as published
    assert [(k.mean, k.rate, k.spans) for k in MixtureOfDenoisers().kinds(data, 128) if k.mean > 8] == [
        (9.5, 0.15, (18, 2)),
        (31, 0.5, (61, 2)),
    ]
    assert max(k.mean for k in MixtureOfDenoisers(short="drop").kinds(data, 128)) == 8
    own = MixtureOfDenoisers(denoisers=[{"family": "X", "mean": 64, "rate": 0.5}], short="drop")
    with pytest.raises(UserError, match="too short for all of the denoisers"):
        own.kinds(data, 64)


def test_every_example_starts_with_its_familys_token_or_none_does(tmp_path: Path) -> None:
    data = tokens(tmp_path / "tokens")
    special = data.tokenizer.special
    for modes in (True, False):
        source: Any = MixtureOfDenoisers(modes=modes).rows(data, 64)
        found = source.corrupted(np.arange(30), randomness(0, 0))
        first = [special[MODES["RSX"[f]]] for f in found.family] if modes else None
        assert found.inputs[:, 0].tolist() == first if modes else not np.isin(found.inputs, list(special.values())[-3:]).any()
        assert found.read.max() <= 64


def test_mistakes_are_told(tmp_path: Path) -> None:
    data = tokens(tmp_path / "tokens", sentinels=2, special=())
    with pytest.raises(UserError, match=r"no special token '\[NLU\]'"):
        MixtureOfDenoisers().rows(data, 64)
    with pytest.raises(UserError, match="sentinels, but the vocabulary has 2"):
        MixtureOfDenoisers(modes=False).rows(data, 64)
    vocabulary = (data.path / "tokenizer.json").read_text()
    asked = Tokens.write(tmp_path / "asked", [(np.arange(200) % 250, 200, 30)], tokenizer=vocabulary, vocab_size=400)
    with pytest.raises(UserError, match="encode them without `given`"):
        MixtureOfDenoisers(modes=False).rows(asked, 64)
    with pytest.raises(UserError, match="no encoder"):
        MixtureOfDenoisers(attention="encoder_decoder").prepare(tiny.module())
    with pytest.raises(UserError, match="is an encoder-decoder"):
        MixtureOfDenoisers().prepare(build(T5).build(100, 0))
    for wrong in ({"family": "S", "rate": 0.6}, {"family": "R", "rate": 0}, {"family": "Z"}):
        with pytest.raises(ValidationError):
            MixtureOfDenoisers(denoisers=[wrong])


def test_a_causal_model_is_trained_further_with_ul2r(tmp_path: Path) -> None:
    data = tokens(tmp_path / "tokens")
    (tmp_path / "a" / "scratch").mkdir(parents=True)
    with running(Context(tmp_path / "a" / "out", tmp_path / "a" / "scratch", 0)):
        causal = build({"use": "learn.train", "budget": {"steps": 3}, "length": 64, "batch_size": 4})(build(LLAMA), tokens=data)
    step = Context(tmp_path / "b" / "out", tmp_path / "b" / "scratch", 0)
    step.scratch.mkdir(parents=True)
    objective = {"use": "learn.objectives.mixture_of_denoisers", "mixture": "ul2r"}
    with running(step):
        further = build({"use": "learn.train", "objective": objective, "budget": {"steps": 3}, "length": 64, "batch_size": 4})(
            causal, tokens=data
        )
    assert not encoder_decoders.reads_both_ways(causal.load())
    assert encoder_decoders.reads_both_ways(further.load())
