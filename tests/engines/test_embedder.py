"""Vectors and their neighbours: brute force, length one, asked for once, kept over a kill."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.engines.embedder import opened
from paredown.engines.parts import Embedder
from paredown.engines.search import nearest
from paredown.infer.embedders.sentence import Sentence
from paredown.infer.embedders.tfidf import Tfidf

TEXTS = [
    f"{kind} number {i} is about {kind} and {more}"
    for i in range(30)
    for kind, more in (("apples", "pears"), ("engines", "oil"), ("verbs", "nouns"))
]
CALLS: list[list[str]] = []


class Lengths(Embedder):
    """A vector of a text's length and its letters; fails at a text, once."""

    bad: str = ""
    identity: str = "lengths"

    def open(self, fitted_on: Sequence[str]) -> Any:
        return _Lengths(self)


class _Lengths:
    def __init__(self, part: Lengths) -> None:
        self.identity, self.bad = part.identity, part.bad

    def embed(self, texts: Sequence[str]) -> Any:
        CALLS.append(list(texts))
        if self.bad in texts:
            return np.full((len(texts), 2), np.nan)
        return np.array([[len(text), text.count("a") + 0.5] for text in texts])

    def close(self) -> None: ...


def at(folder: Path) -> Any:
    folder.mkdir(exist_ok=True)
    return running(Context(folder / "out", folder, seed=0))


def test_neighbours_are_those_of_brute_force_and_ties_come_in_order() -> None:
    rng = np.random.default_rng(0)
    stored, asked = rng.normal(size=(200, 16)).astype(np.float32), rng.normal(size=(9, 16)).astype(np.float32)
    places, similarities = nearest(stored, asked, 7)
    for row, query in enumerate(asked):
        expected = np.argsort(-(stored @ query), kind="stable")[:7]
        assert places[row].tolist() == expected.tolist()
        np.testing.assert_allclose(similarities[row], (stored @ query)[expected], rtol=1e-5)
    twice = np.concatenate([stored[:3], stored[:3]])
    assert nearest(twice, stored[1:2], 2)[0].tolist() == [[1, 4]]
    assert nearest(stored, asked, 500)[0].shape == (9, 200)
    assert nearest(stored[:0], asked, 3)[0].shape == (9, 0)


def test_texts_of_one_subject_are_near(tmp_path: Path) -> None:
    with at(tmp_path), opened(Tfidf(dimensions=8), TEXTS) as embed:
        stored, asked = embed(TEXTS), embed(["apples again", "oil for engines", "nouns"])
        again = embed(TEXTS)
    assert (stored == again).all()
    np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1, rtol=1e-5)
    places, _ = nearest(stored, asked, 10)
    for row, subject in zip(places, ("apples", "engines", "verbs"), strict=True):
        assert all(subject in TEXTS[place] for place in row)


@pytest.mark.parametrize("texts", [["one"], ["one", "one"], ["", ""], ["a b", "c d"]])
def test_few_texts_are_enough(tmp_path: Path, texts: list[str]) -> None:
    with at(tmp_path), opened(Tfidf(), texts or ["x"]) as embed:
        found = embed([*texts, "unknown"])
    assert found.shape[0] == len(texts) + 1
    assert np.isfinite(found).all()


def test_a_text_is_embedded_once_over_steps_and_kills(tmp_path: Path) -> None:
    CALLS.clear()
    with at(tmp_path):
        with opened(Lengths(), []) as embed:
            first = embed(["aa", "b", "aa"])
        with opened(Lengths(), []) as embed:
            second = embed(["b", "ccc", "aa"])
        with opened(Lengths(identity="other"), []) as embed:
            embed(["b"])
    assert CALLS == [["aa", "b"], ["ccc"], ["b"]]
    assert (first[0] == first[2]).all()
    assert (first[1] == second[0]).all()
    with at(tmp_path), pytest.raises(DataError, match="not finite: 'dddd'"), opened(Lengths(bad="dddd"), []) as embed:
        embed(["dddd"])


def test_a_folder_of_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *sorted({word for text in TEXTS for word in text.split()})]
    fast = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    made = tmp_path / "bert"
    kind: Any = PreTrainedTokenizerFast
    kind(tokenizer_object=fast, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(made)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": len(words)}
    BertModel(BertConfig(**shape)).save_pretrained(made)
    inner = Transformer(str(made))
    SentenceTransformer(modules=[inner, Pooling(16)]).save(str(tmp_path / "sentences"))
    with at(tmp_path / "run"), opened(Sentence(model=str(tmp_path / "sentences")), []) as embed:
        found = embed(TEXTS[:3])
    direct = SentenceTransformer(str(tmp_path / "sentences")).encode(TEXTS[:3], normalize_embeddings=True)
    np.testing.assert_allclose(found, direct, rtol=1e-4, atol=1e-5)
    with at(tmp_path / "run"), pytest.raises(UserError, match="no model for sentences"), opened(Sentence(model=str(tmp_path / "none")), []):
        pass
