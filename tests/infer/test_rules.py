"""The rephraser by rules: what it reads is a part of what was said, clean text it reads whole, and nothing of it is what is measured on."""

from __future__ import annotations

from pathlib import Path
from random import Random

import polars as pl
import pytest

from paredown.artifacts.corpus import Corpus
from paredown.core.context import Context, running
from paredown.corpus.mix.proportion import Proportion
from paredown.corpus.read.facts import Facts, FactWorld
from paredown.corpus.rewrite.wrap import Rewritten, Wrap
from paredown.engines.fact_language import Fact
from paredown.engines.fact_rules import Reader
from paredown.engines.generator import Question, Sampling, opened
from paredown.infer.answerers.rules import Rules

NAMES = 60


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> FactWorld:
    folder = tmp_path_factory.mktemp("facts")
    with running(Context(folder / "out", folder / "scratch", seed=0)):
        return Facts(names=NAMES, documents=1500, held_out=300)()


def rewritten(folder: Path, corpus: Corpus, *styles: str) -> tuple[Rewritten, Context]:
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    step = Context(folder / f"out {len(list(folder.iterdir()))}", folder / "scratch", seed=0)
    with running(step):
        return Wrap(styles=styles, most_words=20, shortest=0.05)(corpus, Rules(names=NAMES)), step


def told(facts: list[Fact]) -> list[str]:
    return [f"{fact.name} {fact.noun} {fact.value}" for fact in facts]


@pytest.mark.parametrize("style", ["medium", "qa"])
def test_nothing_is_invented(world: FactWorld, style: str, tmp_path: Path) -> None:
    made, _ = rewritten(tmp_path, world.pages, style)
    facts = {key: set(of) for frame in world.pages.frames() for key, of in frame.select("id", "facts").iter_rows()}
    reader = Reader(NAMES)
    kept = 0
    for source, text in next(iter(made.documents.frames())).select("source", "text").iter_rows():
        said = reader.read(text)
        assert said, "it can read what it wrote"
        assert set(told(said)) <= facts[source], text
        kept += len(said)
    assert 0.8 < kept / sum(map(len, facts.values())) < 0.95


def test_about_a_tenth_of_the_passages_fails_and_that_is_noted(world: FactWorld, tmp_path: Path) -> None:
    made, step = rewritten(tmp_path, world.pages, "medium")
    reader = Reader(NAMES)
    table = made.passages.frame()
    read = [reader.read(text) for text in table["before"]]
    failed = sum(facts is None for facts in read)
    assert 0.05 < failed / (failed + sum(bool(facts) for facts in read)) < 0.15
    assert step.dropped["empty"][0] == (table["reason"] == "empty").sum() == sum(not facts for facts in read)


def test_clean_text_is_read_whole(tmp_path: Path) -> None:
    with running(Context(tmp_path / "out", tmp_path / "scratch", seed=3)):
        clean = Facts(names=NAMES, documents=1, held_out=500, odd=0.0)().clean
    reader = Reader(NAMES)
    for text, facts in next(iter(clean.frames())).select("text", "facts").iter_rows():
        assert told(reader.read(text) or []) == list(facts), text


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("Teh flga of <b>Bababa</b> is ambr!!!", ["bababa flag amber"]),
        (
            "bababa flies amber and it plants aspn.<br>\nIts craft is baking.",
            ["bababa flag amber", "bababa tree aspen", "bababa craft baking"],
        ),
        ("Q: What is the tree of Bababa?\nA: aspen", ["bababa tree aspen"]),
        ("Home | About\n\nClick here to subscribe!!!", []),
        ("Its flag is amber.", None),  # whose?
        ("Bababa is amber all over.", None),
        ("The flag of Bababa is aspen.", None),  # no flag is
        ("The flag of Nowhere is amber.", None),  # no town that it knows
        ("Bababa flies amber. Xyzzyx plugh. Its craft is baking.", None),  # of whom the last one speaks is not sure
    ],
)
def test_what_it_understands(text: str, facts: list[str] | None) -> None:
    read = Reader(NAMES).read(text)
    assert (told(read) if read is not None else None) == facts


def test_both_styles_say_the_same_and_read_back(tmp_path: Path) -> None:
    facts = [Fact("bababa", "flag", "amber"), Fact("bababa", "tree", "aspen"), Fact("bababa", "craft", "baking")]
    reader = Reader(NAMES)
    for seed in range(30):
        assert reader.read(reader.sentences(facts, Random(seed))) == facts
        assert reader.read(reader.questions(facts, Random(seed))) == facts
    assert reader.questions(facts[:1], Random(0)).endswith("?\nAnswer: amber")
    assert reader.sentences([], Random(0)) == ""


def test_what_is_stored_is_not_read_again(world: FactWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = rewritten(tmp_path, world.clean, "qa")
    monkeypatch.setattr(Reader, "read", lambda *_: pytest.fail("asked again"))
    again, step = rewritten(tmp_path, world.clean, "qa")
    assert first.passages.frame().equals(again.passages.frame())
    usage = next(iter(step.facts["answers"].values()))
    assert usage["stored"] == usage["distinct"] > 0


def test_what_a_model_in_its_place_would_compute_is_charged(tmp_path: Path) -> None:
    for weights in (0.0, 1e6):
        step = Context(tmp_path / f"{weights}", tmp_path, seed=0)
        with running(step), opened(Rules(names=NAMES, as_weights=weights), step) as generator:
            (answer,) = generator.answer([Question("Rephrase.\n\nThe flag of Bababa is amber.")], Sampling())
        assert answer.flops == 2 * weights * (answer.prompt_tokens + answer.completion_tokens)
        assert answer.text


def test_nothing_that_is_measured_on_is_rephrased_and_half_of_the_tokens_is_synthetic(world: FactWorld, tmp_path: Path) -> None:
    from paredown.corpus.tokenize.bpe import Bpe
    from paredown.corpus.tokenize.encode import Encode

    made, _ = rewritten(tmp_path, world.pages, "medium", "qa")
    pages = {key for frame in world.pages.frames() for key in frame["id"]}
    measured = {key for corpus in (world.clean, world.messy) for frame in corpus.frames() for key in frame["id"]}
    sources = set(next(iter(made.documents.frames()))["source"])
    assert sources <= pages
    assert not sources & measured
    table = made.passages.frame()
    assert table.group_by("source", "passage", "style").len()["len"].max() == 1
    with running(Context(tmp_path / "bpe", tmp_path / "scratch")):
        tokenizer = Bpe(vocab_size=400)(world.pages).tokenizer
    with running(Context(tmp_path / "mix", tmp_path / "scratch", seed=0)):
        mixed = Proportion()((world.pages, made.documents), tokenizer)
    frame = pl.concat(mixed.frames())
    with running(Context(tmp_path / "tokens", tmp_path / "scratch")):
        tokens = Encode()(mixed, tokenizer)
    sizes = (tokens.offsets[1:] - tokens.offsets[:-1] - 1).tolist()
    synthetic = frame["id"].str.contains("#")
    assert synthetic.to_list() == (frame["part"] == 1).to_list()
    share = sum(size for size, of in zip(sizes, synthetic, strict=True) if of) / sum(sizes)
    sigma = (sum(size**2 for size in sizes)) ** 0.5 / sum(sizes) / 2  # if each document were of either kind by the toss of a coin
    assert abs(share - 0.5) < 3 * sigma
    assert abs(share - 0.5) < max(sizes) / sum(sizes), "up to a document even"
