"""CFSP: angles and shares in closed form, the cancellation in the reference's score, and uneven models that compute what the masked one does."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import tiny_models
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.artifacts.block_shapes import SHAPES
from paredown.artifacts.model import Model
from paredown.core.errors import DataError, UserError
from paredown.engines import removal, structure
from paredown.engines.hidden_states import change
from paredown.learn.train import Train
from paredown.measure.perplexity import Perplexity
from paredown.prune.cfsp import Cfsp, channel_scores, keep_shares
from paredown.prune.channels import Channels
from paredown.prune.wanda import Wanda

TEXTS = [f"def function_{n}(value):\n    return value * {n} + {n % 7}\n" for n in range(60)]
CALIBRATED = {"calibration_tokens": 1024, "length": 64}
WIDTHS = {"llama": "intermediate_size", "qwen3": "intermediate_size", "gpt2": "n_inner", "opt": "ffn_dim", "gpt_neox": "intermediate_size"}
IDS = torch.randint(0, 200, (2, 16), generator=torch.Generator().manual_seed(0))


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_angles_of_known_maps():
    h = draw(3, 5, 8)
    turned = h.clone()
    turned[..., 0::2], turned[..., 1::2] = -h[..., 1::2], h[..., 0::2]
    assert change(h, h) == 0
    assert change(h, 3 * h) == pytest.approx(0, abs=1e-5)
    assert change(h, -h) == pytest.approx(15, rel=1e-6)
    assert change(h, turned) == pytest.approx(7.5, rel=1e-6)
    assert change(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]])) == pytest.approx(0.25, rel=1e-6)
    assert change(1e4 * h, 1e4 * h * (1 + 1e-7)) < 1e-2, "a cosine that rounds above 1 is no NaN"


def test_other_measures_of_a_block():
    before, after = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]), torch.tensor([[[0.0, 1.0], [0.0, 4.0]]])
    assert change(before, after, "cosine") == pytest.approx(1)
    assert change(before, after, "mse") == pytest.approx(1 + 2)
    assert change(before, after, "mae") == pytest.approx(1 + 1)
    assert change(before, after, "constant") == 2


def test_shares_by_hand():
    """At the reference's 128 x 1024 tokens the divisor is its 1e4."""
    importance = [5000.0, 15000.0]
    z = [1 / (1 + math.exp(0.5)), 1 / (1 + math.exp(-0.5))]
    expected = [value / (sum(z) / 2) * 0.4 for value in z]
    assert keep_shares(importance, 0.6, 128 * 1024) == pytest.approx(expected, rel=1e-12)
    assert keep_shares([value / 16 for value in importance], 0.6, 8 * 1024) == pytest.approx(expected, rel=1e-12), "whatever the tokens"


def test_shares_shrink_until_none_is_above_one():
    tokens = 1000
    shares = keep_shares([0.0, 0.0, 400.0], 0.2, tokens)
    assert max(shares) == pytest.approx(0.8 * (1 + (1 / 0.8 - 1) / 1.05), rel=1e-12), "the slack of the division by 1.05"
    assert sum(shares) / 3 == pytest.approx(0.8, abs=1e-12)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0, 0.95), st.integers(1, 10**7), st.floats(0.01, 100))
def test_shares_keep_what_is_asked_for_and_never_more_than_all(angles, sparsity, tokens, steepness):
    shares = keep_shares([angle * tokens for angle in angles], sparsity, tokens, steepness)
    assert math.fsum(shares) / len(shares) == pytest.approx(1 - sparsity, abs=1e-9)
    assert max(shares) <= 1 + 1e-9
    assert min(shares) >= 0


def test_equal_blocks_keep_equal_shares():
    assert keep_shares([7.0] * 5, 0.3, 100) == pytest.approx([0.7] * 5, abs=1e-15)


def test_the_reference_ranks_by_activity_alone():
    """Each column sums to one, so the mean of each term is 1 / width whatever the weights."""
    down, up, gate, s = draw(16, 40), draw(40, 16, seed=1), draw(40, 16, seed=2), draw(40, seed=3).abs()
    scores = channel_scores(down, [up, gate], s, "column")
    assert torch.allclose(scores, 3 / 16 * s, rtol=1e-5)
    assert torch.equal(scores.argsort(), s.argsort())
    rows = channel_scores(down, [up, gate], s, "row")
    assert not torch.equal(rows.argsort(), s.argsort())


def test_scores_by_hand():
    down, up, gate, s = torch.tensor([[1.0, -3.0]]), torch.tensor([[1.0], [1.0]]), torch.tensor([[3.0], [-1.0]]), torch.tensor([3.0, 1.0])
    assert channel_scores(down, [up, gate], s, "row").tolist() == pytest.approx([(0.5 + 0.5 + 0.75) * 3, (0.5 + 0.5 + 0.25) * 1])
    assert channel_scores(down, [up, gate], s, "row", weight_power=0).tolist() == pytest.approx([(0.25 + 0.5 + 0.75) * 3, 1.5])
    assert channel_scores(down, [up, gate], s, "row", power=0).tolist() == pytest.approx([1.75, 1.25])
    assert channel_scores(down, [up, gate], s, "wanda").tolist() == [3, 3]
    dead = channel_scores(torch.zeros(2, 2), [torch.zeros(2, 2)], torch.zeros(2), "column")
    assert dead.tolist() == [0, 0], "a channel of zeros is worth nothing, and no NaN"


def test_activity_is_the_root_of_the_mean_over_sequences(tmp_path):
    """s_j against the formula on the loaded dense model, in two passes, with the dense outputs before every block."""
    model, tokens = tiny_models.model(tmp_path / "model", "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    ids = torch.from_numpy(tokens.ids[: tokens.tokens // 32 * 32].astype("int64")).view(-1, 32)
    seen: list[torch.Tensor] = []
    module: Any = model.load()
    hooks = [layer.mlp.down_proj.register_forward_pre_hook(lambda _m, args: seen.append(args[0])) for layer in module.model.layers]
    with torch.no_grad():
        states = module(input_ids=ids, output_hidden_states=True).hidden_states
    for hook in hooks:
        hook.remove()
    strategy = Cfsp(normalise="column", power=1)
    units = structure.channels(model)
    notes = removal.observe(model, [units], ids, lambda found: strategy._scores(found, len(ids)).tolist(), change)
    for noted, x in zip(notes, seen, strict=True):
        s = x.square().sum(dim=1).mean(dim=0).sqrt()
        assert torch.allclose(torch.tensor(noted["channels"]), 3 / 32 * s, rtol=1e-4)
    # the last of the states is normalized already
    assert notes[0]["block"] == pytest.approx(change(states[0], states[1]), rel=1e-5)


@pytest.mark.parametrize("normalise", ["column", "row", "wanda", "random"])
@pytest.mark.parametrize("family", WIDTHS)
def test_an_uneven_model_computes_what_the_masked_one_does(tmp_path, family, normalise):
    model, tokens = tiny_models.model(tmp_path / "model", family), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    small = Cfsp(sparsity=0.4, steepness=40, normalise=normalise, **CALIBRATED)(model, tokens)
    report = json.loads((small.path / "pruning.json").read_text())
    kept = [row["channels_kept"] for row in report]
    lengths = [len(row) for row in kept]
    assert len(set(lengths)) == 2, "the blocks differ"
    assert sum(lengths) == sum(row["channels"] for row in report) - int(0.4 * sum(row["channels"] for row in report))
    (widths,) = small.config[SHAPES].values()
    assert widths == {"widths": {WIDTHS[family]: lengths}}
    assert [row["importance"] > 0 and 0 < row["share"] <= 1 for row in report] == [True, True]
    masked: Any = model.load()
    group = structure.channels(model).groups
    for found, rows in zip(group, kept, strict=True):
        weight = masked.base_model.get_submodule(f"{found.block}.{found.uses[0].layer}").weight
        gone = torch.ones(found.units, dtype=torch.bool)
        gone[rows] = False
        with torch.no_grad():
            weight.index_fill_(found.uses[0].dims["weight"], gone.nonzero().flatten(), 0)
    with torch.no_grad():
        torch.testing.assert_close(small.load()(input_ids=IDS).logits, masked(input_ids=IDS).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", WIDTHS)
def test_the_uniform_export_computes_the_same_in_stock_transformers(tmp_path, family):
    model, tokens = tiny_models.model(tmp_path / "model", family), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    uneven = Cfsp(sparsity=0.4, steepness=40, **CALIBRATED)(model, tokens)
    uniform = Cfsp(sparsity=0.4, steepness=40, uniform=True, **CALIBRATED)(model, tokens)
    assert SHAPES not in uniform.config
    stock = transformers.AutoModelForCausalLM.from_pretrained(uniform.path).eval()
    lengths = [len(row["channels_kept"]) for row in json.loads((uneven.path / "pruning.json").read_text())]
    assert uniform.config[WIDTHS[family]] == max(lengths)
    with torch.no_grad():
        torch.testing.assert_close(stock(input_ids=IDS).logits, uneven.load()(input_ids=IDS).logits, atol=1e-5, rtol=0)


def test_more_goes_from_a_block_that_changes_nothing(tmp_path):
    module = tiny_models.module("llama")
    with torch.no_grad():
        module.model.layers[1].mlp.down_proj.weight *= 1e-3
        module.model.layers[1].self_attn.o_proj.weight *= 1e-3
    first = tiny_models.model(tmp_path / "model", "llama")
    module.save_pretrained(first.path)
    small = Cfsp(**CALIBRATED)(Model(first.path), tiny_models.tokens(tmp_path / "tokens", TEXTS))
    busy, idle = small.config[SHAPES]["layers"]["widths"]["intermediate_size"]
    assert busy > idle
    even = Cfsp(importance="constant", **CALIBRATED)(Model(first.path), tiny_models.tokens(tmp_path / "again", TEXTS))
    assert SHAPES not in even.config
    assert even.config["intermediate_size"] == 24


def test_multiples_that_would_remove_nothing_are_refused(tmp_path):
    model, tokens = tiny_models.model(tmp_path / "model", "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    with pytest.raises(UserError, match="nothing would be removed: blocks have 48 channels, too few for multiples of 128"):
        Cfsp(sparsity=0.5, multiple_of=128, **CALIBRATED)(model, tokens)


def test_widths_are_multiples_and_nothing_removed_is_the_same_file(tmp_path):
    model, tokens = tiny_models.model(tmp_path / "model", "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    small = Cfsp(sparsity=0.4, steepness=40, multiple_of=8, **CALIBRATED)(model, tokens)
    widths = small.config[SHAPES]["layers"]["widths"]["intermediate_size"]
    assert all(width % 8 == 0 for width in widths)
    assert sum(widths) == 56, "58 is rounded to 7 eights"
    same = Cfsp(sparsity=0.0, **CALIBRATED)(model, tokens)
    assert (same.path / "model.safetensors").read_bytes() == (model.path / "model.safetensors").read_bytes()


def test_what_is_uneven_can_be_pruned_again(tmp_path):
    model, tokens = tiny_models.model(tmp_path / "model", "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    once = Cfsp(sparsity=0.25, steepness=40, **CALIBRATED)(model, tokens)
    twice = Channels(sparsity=0.5, heads=0.5, multiple=1, **CALIBRATED)(once, tokens)
    before, after = (m.config[SHAPES]["layers"]["widths"]["intermediate_size"] for m in (once, twice))
    assert after == [width - width // 2 for width in before]
    assert twice.load()(input_ids=IDS).logits.isfinite().all()
    thrice = Cfsp(sparsity=0.5, importance="constant", **CALIBRATED)(twice, tokens)
    assert thrice.load()(input_ids=IDS).logits.isfinite().all()
    assert thrice.parameters()["total"] < twice.parameters()["total"]


def test_experts_are_refused(tmp_path):
    with pytest.raises(UserError, match="has experts"):
        Cfsp(**CALIBRATED)(tiny_models.model(tmp_path / "moe", "mixtral"), tiny_models.tokens(tmp_path / "tokens", TEXTS))


def test_an_uneven_model_learns_answers_and_is_pruned_like_any_other(tmp_path):
    model, tokens = tiny_models.model(tmp_path / "model", "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    uneven = Cfsp(sparsity=0.4, steepness=40, **CALIBRATED)(model, tokens)
    train = Train(budget={"steps": 3}, batch_size=4, length=32, evaluate_every=0)
    tuned = train(tokens=tokens, model=uneven)
    assert tuned.config[SHAPES] == uneven.config[SHAPES]
    before, after = uneven.load().state_dict(), tuned.load().state_dict()
    assert {name: value.shape for name, value in before.items()} == {name: value.shape for name, value in after.items()}
    assert any(not torch.equal(before[name], after[name]) for name in before)
    sparse = Wanda(sparsity=0.5, **CALIBRATED)(tuned, tokens)
    assert sparse.config[SHAPES] == uneven.config[SHAPES]
    assert sparse.parameters()["nonzero"] < 0.8 * sparse.parameters()["total"] == 0.8 * tuned.parameters()["total"]
    loss = {row.metric: row.value for row in Perplexity(length=32)(tuned, tokens).rows()}["loss"]
    assert loss < {row.metric: row.value for row in Perplexity(length=32)(uneven, tokens).rows()}["loss"]


def test_what_each_block_is_worth_is_kept_beside_the_model(tmp_path):
    model, tokens = tiny_models.model(tmp_path / "model", "llama"), tiny_models.tokens(tmp_path / "tokens", TEXTS)
    found = removal.shares(Cfsp(sparsity=0.4, **CALIBRATED)(model, tokens))
    assert len(found) == 2
    assert sum(found) / 2 == pytest.approx(0.6)
    with pytest.raises(DataError, match=r"no pruning\.json in the folder that says what each block is worth"):
        removal.shares(model)
