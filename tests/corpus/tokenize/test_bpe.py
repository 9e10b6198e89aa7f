"""The vocabulary and the ids against brute force; whatever the text, it comes back byte for byte."""

from __future__ import annotations

import json
import random
import re
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer as Fast

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.tokens import END_OF_TEXT, Tokenized, Tokens
from paredown.core.context import Context, Listener, running
from paredown.core.errors import DataError, UserError
from paredown.corpus.tokenize.bpe import Bpe
from paredown.engines import byte_pairs

# how GPT-2 cuts ASCII text into words, inside which pairs are merged
WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")
PRINTED = [*range(33, 127), *range(161, 173), *range(174, 256)]
LETTER = {b: chr(b) for b in PRINTED} | {b: chr(256 + n) for n, b in enumerate(b for b in range(256) if b not in PRINTED)}
ODD = [
    "", " ", "\n", "\0", "\0" * 9, "\ufeff", "\ufffd", "e\u0301\u0301", "\u202e abc", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "汉字汉字", "\r\n\t\x0b\x85\u2028",
    END_OF_TEXT, f"a{END_OF_TEXT}b", END_OF_TEXT * 3, f" {END_OF_TEXT}\n", "<|endoftext|", "Ġ Ċ Ā", "".join(map(chr, range(256))), "\U0010ffff\uffff\ue000",
]  # fmt: skip


def cut(text: str) -> list[str]:
    """Words with each byte as the letter that stands for it."""
    found = WORDS.findall(text)
    assert "".join(found) == text
    return ["".join(LETTER[b] for b in word.encode()) for word in found]


MERGED: Any = object()  # part of no pair until the walk is over


def merge(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for symbol in symbols:
        if out and (out[-1], symbol) == pair:
            out[-1:] = [MERGED]
        else:
            out.append(symbol)
    return ["".join(pair) if symbol is MERGED else symbol for symbol in out]


def brute_force(texts: list[str], size: int, least: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """(vocabulary, merges): always the most frequent pair, of equal ones that with the smallest ids."""
    vocabulary = {END_OF_TEXT: 0} | {letter: n + 1 for n, letter in enumerate(sorted(LETTER.values()))}
    words = Counter(word for text in texts for word in cut(text))
    split = {word: list(word) for word in words}
    merges: list[tuple[str, str]] = []
    while len(vocabulary) < size:
        counts: Counter[tuple[str, str]] = Counter()
        for word, times in words.items():
            for pair in pairwise(split[word]):
                counts[pair] += times
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], vocabulary[pair[0]], vocabulary[pair[1]]))
        if counts[best] < least:
            break
        merges.append(best)
        vocabulary.setdefault("".join(best), len(vocabulary))
        split = {word: merge(symbols, best) for word, symbols in split.items()}
    return vocabulary, merges


def brute_ids(text: str, vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> list[int]:
    ids = []
    for word in cut(text):
        symbols = list(word)
        for pair in merges:
            symbols = merge(symbols, pair)
        ids += [vocabulary[symbol] for symbol in symbols]
    return ids


def corpus_of(path: Path, *shards: list[str]) -> Corpus:
    return Corpus.write(
        path, [pl.DataFrame({"id": map(str, range(len(texts))), "text": texts}, schema_overrides={"text": pl.String}) for texts in shards]
    )


def tokenize(folder: Path, *shards: list[str], held: list[str] | None = None, **knobs: Any) -> Tokenized:
    (folder / "scratch").mkdir(parents=True)
    with running(Context(folder / "out", folder / "scratch")):
        return Bpe(**knobs)(corpus_of(folder / "in", *shards), None if held is None else corpus_of(folder / "held", held))


def model(made: Tokenized) -> tuple[dict[str, int], list[tuple[str, str]]]:
    loaded = json.loads(made.train.file("tokenizer.json").read_text())["model"]
    return loaded["vocab"], [tuple(pair) for pair in loaded["merges"]]


def documents(tokens: Tokens) -> list[list[int]]:
    """The ids of each document; the mark stands before and after, and nowhere else."""
    ids, offsets = tokens.ids, tokens.offsets
    assert offsets[0] == 0
    assert offsets[-1] == tokens.tokens == ids.size
    found = [ids[begin:end].tolist() for begin, end in pairwise(offsets.tolist())]
    for some in found:
        assert some[0] == some[-1] == tokens.end_of_text == 0
        assert len(some) >= 2
        assert 0 not in some[1:-1]
        assert max(some) < tokens.vocab_size
    return [some[1:-1] for some in found]


def decoded(tokens: Tokens) -> list[str]:
    fast = Fast.from_file(str(tokens.file("tokenizer.json")))
    return fast.decode_batch(documents(tokens), skip_special_tokens=False)


def random_text(seed: int, length: int = 400) -> str:
    draw = random.Random(seed)
    points = [draw.choice([draw.randrange(128), draw.randrange(0x800), draw.randrange(0x110000)]) for _ in range(length)]
    return "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)


@pytest.mark.parametrize("seed", range(12))
def test_vocabulary_and_ids_equal_brute_force(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    letters = ["ab", "abc ", "aab b'st\n", "ab1!  "][seed % 4]
    texts = ["".join(draw.choices(letters, k=draw.randrange(25))) for _ in range(20)]
    size, least = 257 + draw.randrange(1, 30), draw.choice([1, 2, 4])
    made = tokenize(tmp_path, texts[:7], [], texts[7:], vocab_size=size, min_frequency=least)
    vocabulary, merges = brute_force(texts, size, least)
    assert model(made) == (vocabulary, merges)
    assert made.train.vocab_size == len(vocabulary)
    assert documents(made.train) == [brute_ids(text, vocabulary, merges) for text in texts]
    assert len(merges) > 0


def test_of_equally_frequent_pairs_the_first_letters_go_first(tmp_path: Path) -> None:
    made = tokenize(tmp_path, ["dc ba dc ba"], vocab_size=258, min_frequency=1)
    assert model(made)[1] == [("b", "a")]
    assert model(made) == brute_force(["dc ba dc ba"], 258, 1)


def test_any_text_comes_back(tmp_path: Path) -> None:
    texts = [*ODD, *map(random_text, range(30)), "def f(x):\n\treturn  x\n" * 50]
    made = tokenize(tmp_path, texts[:9], texts[9:], held=texts[::-1], vocab_size=600)
    assert made.held_out is not None
    assert decoded(made.train) == texts
    assert decoded(made.held_out) == texts[::-1]
    assert documents(made.held_out) == documents(made.train)[::-1]


def test_the_mark_inside_a_text_is_text(tmp_path: Path) -> None:
    texts = [f"one {END_OF_TEXT} two"] * 4
    made = tokenize(tmp_path, texts, vocab_size=400)
    assert decoded(made.train) == texts
    assert made.train.info["documents"] == 4
    assert int((made.train.ids == 0).sum()) == 8
    learnt = {token for token in model(made)[0] if token != END_OF_TEXT and END_OF_TEXT in token}
    assert not learnt


def test_bytes_of_text_are_counted(tmp_path: Path) -> None:
    made = tokenize(tmp_path, ODD[:8], ODD[8:], held=ODD[:3])
    assert made.held_out is not None
    assert made.train.document_bytes.tolist() == [len(text.encode()) for text in ODD]
    assert made.train.text_bytes == sum(len(text.encode()) for text in ODD)
    assert made.held_out.document_bytes.tolist() == [0, 1, 1]
    assert made.train.ids.dtype == np.uint16


def test_held_out_text_is_encoded_with_the_same_vocabulary(tmp_path: Path) -> None:
    train, held = ["aaaa bbbb " * 20], ["cccc aaaa", "zzzz zzzz " * 20, ""]
    with_held = tokenize(tmp_path / "with", train, held=held, vocab_size=270)
    without = tokenize(tmp_path / "without", train, vocab_size=270)
    assert with_held.held_out is not None
    assert with_held.tokenizer is not None
    assert without.held_out is None
    names = {part.file("tokenizer.json").read_bytes() for part in (*with_held.parts().values(), without.train)}
    assert len(names) == 1
    assert decoded(with_held.held_out) == held
    assert documents(with_held.held_out) == [brute_ids(text, *model(with_held)) for text in held]
    assert not any("z" in token for token in model(with_held)[0] if len(token) > 1)


def test_same_bytes_twice_and_however_the_corpus_is_cut(tmp_path: Path) -> None:
    texts = [*ODD, "some words and some more words"]
    files = []
    for name, shards in (("a", [texts]), ("b", [texts]), ("c", [texts[:1], [], texts[1:5], texts[5:]])):
        made = tokenize(tmp_path / name, *shards, vocab_size=300)
        files.append({p.name: p.read_bytes() for p in made.train.path.iterdir()})
    assert files[0] == files[1] == files[2]
    assert sorted(files[0]) == ["ids.npy", "offsets.npy", "text_bytes.npy", "tokenizer.json", "tokens.json"]


def test_learning_tells_the_step_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads in a thread of its own, where nothing is known of the step: each document's progress made a folder of its own, and was lost."""

    class Heard(Listener):
        def progress(self, done: float, total: float | None, unit: str, note: str) -> None:
            told.append((done, total, note))

    told: list[Any] = []
    monkeypatch.setattr(tempfile, "TemporaryDirectory", None)
    corpus = Corpus.from_texts(tmp_path / "corpus", ["some words", "more", "and more"])
    with running(Context(tmp_path / "out", tmp_path, listener=Heard())):
        Bpe(vocab_size=300)(corpus)
    assert [done for done, total, note in told if note == "learning the vocabulary"] == [10, 14], "the last document ends it"


@pytest.mark.parametrize("first", ["aaaa bbbb aaaa bbbb aaaa", "é" * 8, "汉字汉字汉字"])
def test_the_vocabulary_is_learnt_from_the_front_only(tmp_path: Path, first: str) -> None:
    size = len(first.encode())
    alone = tokenize(tmp_path / "alone", [first], vocab_size=300)
    for name, shards, most in (
        ("all", [[first]], size),
        ("more", [[first, "zz zz zz"], ["yy yy yy"]], size),
        ("in the middle", [["", first + "zz zz zz zz"]], size),
        ("in a character", [[first + "é" * 50]], size + 1),
    ):
        assert model(tokenize(tmp_path / name, *shards, vocab_size=300, training_bytes=most)) == model(alone)
    assert model(tokenize(tmp_path / "whole", [first, "zz zz zz"], vocab_size=300, training_bytes=10**6)) != model(alone)


def test_long_documents_are_cut_after_line_ends_and_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_pairs, "LONGEST", 50)
    texts = ["x" * 50, "x" * 51, "x" * 499 + "\n", "line of text\n" * 40, "\n" * 160, random_text(5), "é\n" + "汉" * 200]
    for text in texts:
        some = byte_pairs.pieces(text)
        assert "".join(some) == text
        assert all(0 < len(piece) <= 50 for piece in some)
    assert set(byte_pairs.pieces(texts[3])) == {"line of text\n" * 3, "line of text\n"}
    made = tokenize(tmp_path, texts, vocab_size=300)
    assert decoded(made.train) == texts
    assert made.train.document_bytes.tolist() == [len(text.encode()) for text in texts]


@pytest.mark.parametrize("unit", ["x", " ", "\n", "汉"])
def test_endless_runs_do_not_take_endless_time(tmp_path: Path, unit: str) -> None:
    text = "some words " + unit * 400_000 + " and more words"
    some = byte_pairs.words(text)
    assert "".join(some) == text
    assert max(len(run) for piece in some for run in re.findall(r"\S+|\s+", piece)) <= byte_pairs.WORD
    begun = time.perf_counter()
    made = tokenize(tmp_path, [text, "short"], vocab_size=300)
    assert time.perf_counter() - begun < 15  # the square of the length would take minutes
    assert decoded(made.train) == [text, "short"]


def test_runs_of_usual_length_are_left_whole() -> None:
    text = "a" * byte_pairs.WORD + " " + "b" * byte_pairs.WORD + "\n" * byte_pairs.WORD
    assert byte_pairs.words(text) == [text]


def test_batches_are_bounded_in_texts_and_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lengths:
        """Encodes a text as its length, and notes what it was given at once."""

        seen: list[list[int]] = []

        def encode_batch_fast(self, texts: list[str], add_special_tokens: bool) -> list[SimpleNamespace]:
            self.seen.append([len(text) for text in texts])
            return [SimpleNamespace(ids=[len(text)]) for text in texts]

    monkeypatch.setattr(byte_pairs, "AT_ONCE", 100)
    monkeypatch.setattr(byte_pairs, "BATCH", 8)
    draw = random.Random(4)
    sizes = [draw.randrange(60) for _ in range(40)] + [0] * 20 + [99, 1, 100, 250, 3]
    found = list(byte_pairs.encoded(("x" * size for size in sizes), Lengths()))  # type: ignore[arg-type]
    assert [some.tolist() for some in found] == [[size] for size in sizes]
    assert [size for batch in Lengths.seen for size in batch] == sizes
    assert all(len(batch) <= 8 and (0 < sum(batch) <= 100 or batch in ([250], [0] * 8)) for batch in Lengths.seen)
    assert list(byte_pairs.encoded([], Lengths())) == []  # type: ignore[arg-type]


def test_nothing_to_learn_from_is_a_clear_error(tmp_path: Path) -> None:
    for number, shards in enumerate(([], [[]], [["", ""]])):
        with pytest.raises(DataError, match="no text to learn a vocabulary from"):
            tokenize(tmp_path / str(number), *shards)
    made = tokenize(tmp_path / "held", ["text"], held=[], vocab_size=257)
    assert made.held_out is not None
    assert (made.held_out.tokens, documents(made.held_out)) == (0, [])
    for knobs in ({"vocab_size": 256}, {"min_frequency": 0}, {"training_bytes": 0}, {"vocabulary": 300}):
        with pytest.raises(ValidationError):
            Bpe(**knobs)


def test_special_tokens_stand_behind_all_others_and_no_text_gives_them(tmp_path: Path) -> None:
    corpus = Corpus.from_texts(tmp_path / "corpus", ["one <extra_id_1> two [NLU] three", "four five six " * 30])
    plain = Bpe(vocab_size=280)(corpus).train
    with_them = Bpe(vocab_size=280, sentinels=3, special_tokens=("[NLU]", "[S2S]"))(corpus).train
    assert with_them.vocab_size == plain.vocab_size + 5
    assert (with_them.ids == plain.ids).all()
    tokenizer = with_them.tokenizer
    first = plain.vocab_size
    assert tokenizer.sentinels() == [first, first + 1, first + 2]
    assert tokenizer.special == {"<|endoftext|>": 0, "<extra_id_0>": first, "<extra_id_1>": first + 1, "<extra_id_2>": first + 2, "[NLU]": first + 3, "[S2S]": first + 4}  # fmt: skip
    assert plain.tokenizer.sentinels() == []
    assert tokenizer.fast("[S2S]a<extra_id_2>")["input_ids"] == [first + 4, *tokenizer.fast("a")["input_ids"], first + 2]


@pytest.mark.parametrize("names", [("",), ("<|endoftext|>",), ("a",), ("[X]", "[X]"), ("<extra_id_0>",)])
def test_a_special_token_must_be_new(names: tuple[str, ...], tmp_path: Path) -> None:
    corpus = Corpus.from_texts(tmp_path / "corpus", ["some text"])
    with pytest.raises(UserError, match="cannot become a special token"):
        Bpe(vocab_size=257, sentinels=1, special_tokens=names)(corpus)
