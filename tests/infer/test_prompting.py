"""Medprompt's parts: what is shown and in which order, chains that are right, votes that cancel a liking; on scripted answers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny_models
import torch
from pydantic import ValidationError
from scripted import ASKED, scripted

from paredown.artifacts.examples import Examples
from paredown.artifacts.scores import Scores
from paredown.core.catalog import build
from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.corpus.read.sums import Sums
from paredown.engines import choosing
from paredown.engines.embedder import opened
from paredown.engines.generator import Question, Sampling
from paredown.infer.answerers.partial import Partial, total
from paredown.infer.prompting.few_shot import FewShot
from paredown.measure.choices import Choices

KINDS = ("fruit", "metal", "river", "bird")


def data(folder: Path, count: int = 24, first: int = 0) -> Examples:
    """Questions of four kinds; the kind's own word is right."""
    rows = []
    for number in range(first, first + count):
        kind = KINDS[number % 4]
        options = [f"{other} {number}" for other in KINDS]
        turned = options[number % 3 :] + options[: number % 3]
        rows.append({"question": f"which is a {kind}, case {number} of the {kind} list?", "options": turned, "answer": f"{kind} {number}"})
    return Examples.write(folder, pl.DataFrame(rows))


def measure(
    folder: Path, answerer: Any, prompting: Any, asked: Examples, known: Examples | None = None, seed: int = 0, **knobs: Any
) -> tuple[Scores, Context]:
    step = Context(folder / "out", folder / "scratch", seed=seed)
    step.scratch.mkdir(parents=True, exist_ok=True)
    with running(step):
        return Choices(prompting=build(prompting), **knobs)(answerer, asked, known), step


def value(scores: Scores, metric: str = "accuracy") -> float:
    return scores.value(metric)


def few(**knobs: Any) -> dict[str, Any]:
    return {"use": "infer.prompting.few_shot", **knobs}


def asked_part(prompt: str) -> str:
    return prompt.rsplit("Question: ", 1)[1]


def letter_for(prompt: str, kind: str) -> str:
    return next(line[0] for line in asked_part(prompt).split("\n") if line[1:3] == ". " and line[3:].startswith(kind))


def right_letter(prompt: str) -> str:
    return letter_for(prompt, asked_part(prompt).split("a ", 1)[1].split(",")[0])


def knows(question: Question, sampling: Sampling) -> str:
    return f" {right_letter(str(question.prompt))}"


def test_nearest_examples_stand_most_similar_last_and_are_never_the_question(tmp_path: Path) -> None:
    known = data(tmp_path / "known", 40, 100)
    scores, _ = measure(tmp_path, scripted(knows), few(examples=3), data(tmp_path / "asked"), known)
    assert value(scores) == 1.0
    for question, _ in ASKED:
        *shown, asked = str(question.prompt).split("Question: ")[1:]
        kind = asked.split("a ", 1)[1].split(",")[0]
        assert len(shown) == 3
        assert all(f"a {kind}," in example for example in shown)
        for example in shown:
            answer = example.rsplit("Answer: ", 1)[1].strip()
            assert f"{answer}. {kind}" in example, "an example says the right letter"
    assert len(ASKED) == 24
    same_set, _ = measure(tmp_path / "2", scripted(knows), few(examples=2), data(tmp_path / "a2"), data(tmp_path / "k2"))
    assert value(same_set) == 1.0
    for question, _ in ASKED:
        *shown, asked = str(question.prompt).split("Question: ")[1:]
        assert asked.split("?")[0] not in [example.split("?")[0] for example in shown], "its own solution is no example"


def test_examples_are_those_of_brute_force_most_similar_last(tmp_path: Path) -> None:
    """Cosines of all pairs; half of the questions stand among the known ones, too, and are never shown for themselves."""
    rng = np.random.default_rng(0)
    words = [f"{a}{b}" for a in ("ka", "to", "mi", "re", "su") for b in ("na", "lo", "pe", "du", "vi", "sha")]
    texts = list(dict.fromkeys(" ".join(rng.choice(words, 7)) for _ in range(60)))
    shown, asked = texts[:50], [*texts[45:50], *texts[50:]]
    known, new = (
        Examples.write(tmp_path / name, pl.DataFrame([{"question": q, "options": ["x", "y"], "answer": "x"} for q in some]))
        for name, some in (("known", shown), ("asked", asked))
    )
    measure(tmp_path, scripted(lambda question, sampling: "A"), few(examples=4), new, known)
    with opened(build("infer.embedders.tfidf"), shown) as embed:
        cosines = embed(asked).astype(np.float64) @ embed(shown).astype(np.float64).T
    assert len(ASKED) == len(asked) == 15
    for question, _ in ASKED:
        *examples, last = (part.split("\n")[0] for part in str(question.prompt).split("Question: ")[1:])
        nearest = [shown[place] for place in np.argsort(-cosines[asked.index(last)]) if shown[place] != last]
        assert examples == nearest[:4][::-1]


def test_however_many_neighbours_hold_the_question_there_are_examples(tmp_path: Path) -> None:
    texts = [*(f"what is it? number {n} of them" for n in range(12)), *(f"another thing {n}" for n in range(12))]
    known, asked = (
        Examples.write(tmp_path / name, pl.DataFrame([{"question": q, "options": ["x", "y"], "answer": "x"} for q in some]))
        for name, some in (("known", texts), ("asked", ["what is it?"]))
    )
    measure(tmp_path, scripted(lambda question, sampling: "A"), few(examples=5), asked, known)
    ((question, _),) = ASKED
    shown = str(question.prompt).split("Question: ")[1:-1]
    assert len(shown) == 5
    assert all(example.startswith("another") for example in shown)


def test_balanced_examples_with_chains_have_every_letter_as_often(tmp_path: Path) -> None:
    def reasons(question: Question, sampling: Sampling) -> str:
        return f"it is clear. Answer: [{right_letter(str(question.prompt))}]"

    asked, known = data(tmp_path / "asked", 6), data(tmp_path / "known", 12, 100)
    measure(tmp_path, scripted(reasons), few(examples=8, chains=True, chain_tries=24, balance=True), asked, known)
    prompts = [str(question.prompt) for question, _ in ASKED if str(question.prompt).count("Question: ") > 1]
    assert len(prompts) == 6
    for prompt in prompts:
        assert set(Counter(example.split("Answer: [")[1][0] for example in prompt.split("Question: ")[1:-1]).values()) == {2}


def test_what_was_read_and_written_is_counted_as_the_tokenizer_counts(tmp_path: Path) -> None:
    model = tiny_models.model(tmp_path / "model")
    rows = [{"question": "q" * n, "options": ["x", "y"], "answer": "y"} for n in (1, 2, 3)]
    asked = Examples.write(tmp_path / "asked", pl.DataFrame(rows))
    scores, step = measure(tmp_path, model, few(examples=0, retries=0), asked)
    found = scores.items()
    assert found is not None
    module, read, written = model.load(), [], []
    for item in choosing.items(asked, "question", "options", "answer"):
        ids = [0, *model.tokenizer(choosing.prompt([], item, choosing.same(item)))["input_ids"]]  # a text begins with the mark
        made = module.generate(torch.tensor([ids]), max_new_tokens=32, do_sample=False, eos_token_id=0, pad_token_id=0)[
            0, len(ids) :
        ].tolist()
        read.append(float(len(ids)))
        written.append(float(made.index(0) if 0 in made else len(made)))
    assert found.filter(metric="prompt_tokens").sort("item")["value"].to_list() == read
    assert found.filter(metric="completion_tokens").sort("item")["value"].to_list() == written
    assert value(scores, "prompt_tokens") == pytest.approx(np.mean(read))
    assert step.cost.tokens == sum(read) + sum(written)


def test_random_examples_are_random_and_depend_on_the_seed(tmp_path: Path) -> None:
    known, asked = data(tmp_path / "known", 40, 100), data(tmp_path / "asked")
    seen = []
    for seed in (0, 0, 1):
        measure(tmp_path / f"{len(seen)}", scripted(knows), few(examples=2, choose="random"), asked, known, seed=seed)
        seen.append([str(question.prompt) for question, _ in ASKED])
    assert seen[0] == seen[1] != seen[2]
    kinds = Counter(example.split("a ", 1)[1].split(",")[0] for prompt in seen[0] for example in prompt.split("Question: ")[1:-1])
    assert set(kinds) == set(KINDS)


def test_only_chains_that_come_to_the_right_answer_are_shown(tmp_path: Path) -> None:
    def reasons(question: Question, sampling: Sampling) -> str:
        prompt = str(question.prompt)
        number = int(asked_part(prompt).split("case ")[1].split(" ")[0])
        letter = (
            right_letter(prompt)
            if number % 2 or "case 1" not in asked_part(prompt)
            else letter_for(prompt, "bird" if "a fruit" in prompt else "fruit")
        )
        return f" because of {number}. Answer: [{letter}]"

    _, step = measure(
        tmp_path,
        scripted(reasons),
        few(examples=2, chains=True, chain_tries=3),
        data(tmp_path / "asked", 8),
        data(tmp_path / "known", 20, 100),
    )
    assert 0 < step.facts["chains_kept"] < 1
    prompts = [str(question.prompt) for question, _ in ASKED if str(question.prompt).count("Question: ") == 3]
    assert len(prompts) == 8
    for prompt in prompts:
        for example in prompt.split("Question: ")[1:-1]:
            head, _, letter = example.partition("Answer: [")
            assert "because of" in head
            kind = example.split("a ", 1)[1].split(",")[0]
            assert f"{letter[0]}. {kind}" in head
    with pytest.raises(DataError, match="no chain of thought"):
        measure(
            tmp_path / "2",
            scripted(lambda q, s: "I do not know"),
            few(examples=2, chains=True),
            data(tmp_path / "a2", 4),
            data(tmp_path / "k2", 8, 100),
        )


def test_balanced_examples_have_every_letter_as_often(tmp_path: Path) -> None:
    measure(tmp_path, scripted(knows), few(examples=8, balance=True), data(tmp_path / "asked", 6), data(tmp_path / "known", 40, 100))
    for question, _ in ASKED:
        letters = Counter(example.rsplit("Answer: ", 1)[1].strip() for example in str(question.prompt).split("Question: ")[1:-1])
        assert set(letters.values()) == {2}


def test_shuffling_cancels_a_liking_for_a_place(tmp_path: Path) -> None:
    always_a = scripted(lambda question, sampling: "A")
    one, _ = measure(tmp_path / "1", always_a, few(examples=0), data(tmp_path / "a", 200))
    assert abs(value(one) - 1 / 4) < 0.1

    def leans(question: Question, sampling: Sampling) -> str:
        """Knows the answer where it stands among the first two, else says A."""
        letter = right_letter(str(question.prompt))
        return letter if letter in "AB" else "A"

    ensemble = {"use": "infer.prompting.ensemble", "of": few(examples=0), "votes": 9}
    single, _ = measure(tmp_path / "2", scripted(leans), few(examples=0), data(tmp_path / "b", 60))
    voted, _ = measure(tmp_path / "3", scripted(leans), ensemble, data(tmp_path / "c", 60))
    orders = Counter(len({str(q.prompt) for q, _ in ASKED if f"case {n} " in str(q.prompt)}) for n in range(60))
    assert orders == {9: 60}
    assert value(voted) > 0.8 > value(single) + 0.2
    fixed, _ = measure(tmp_path / "4", scripted(leans), {**ensemble, "shuffle": False}, data(tmp_path / "d", 60))
    assert value(fixed) == value(single)
    assert len(ASKED) == 60, "equal questions are asked once"


def test_self_consistency_draws_anew_and_unread_answers_are_tried_again(tmp_path: Path) -> None:
    drawn = {"use": "infer.prompting.ensemble", "of": few(examples=0, temperature=0.7), "votes": 3, "shuffle": False}
    measure(tmp_path / "1", scripted(knows), drawn, data(tmp_path / "a", 5))
    assert Counter(question.sample for question, _ in ASKED) == {0: 5, 1: 5, 2: 5}

    def late(question: Question, sampling: Sampling) -> str:
        return knows(question, sampling) if sampling.max_tokens > 600 else "let me think"

    scores, _ = measure(tmp_path / "2", scripted(late), few(examples=0), data(tmp_path / "b", 5))
    assert value(scores) == 1.0
    assert [sampling.max_tokens for _, sampling in ASKED] == [500] * 5 + [700] * 5
    never, _ = measure(tmp_path / "3", scripted(lambda q, s: "hm"), few(examples=0), data(tmp_path / "c", 5))
    assert (value(never), value(never, "unread")) == (0.0, 1.0)


def test_ranking_takes_the_likeliest_letter_and_tokens_are_counted(tmp_path: Path) -> None:
    def ranks(question: Question, sampling: Sampling) -> list[float]:
        return [0.0 if option == right_letter(str(question.prompt)) else -1.0 for option in question.options]

    scores, _ = measure(
        tmp_path, scripted(ranks), few(examples=1, scoring="rank"), data(tmp_path / "asked", 10), data(tmp_path / "known", 20, 100)
    )
    assert value(scores) == 1.0
    assert value(scores, "prompt_tokens") == np.mean([len(str(question.prompt).split()) for question, _ in ASKED])
    with pytest.raises(ValidationError, match="cannot be ranked"):
        FewShot(chains=True, scoring="rank")
    with pytest.raises(UserError, match="5 examples are to be shown, but 3"):
        measure(tmp_path / "3", scripted(ranks), few(), data(tmp_path / "c", 4), data(tmp_path / "l", 3, 100))


def test_the_partial_answerer_is_as_useful_as_it_says(tmp_path: Path) -> None:
    """The card's numbers: b = 2, T = 0.5 gives 0.40 alone, little more by voting in one order, 0.46 by shuffling; with b = 0 shuffling gains nothing."""
    with running(Context(tmp_path / "sums", tmp_path / "s", seed=0)):
        sums = Sums(count=1500)()
    assert sums.frame()["question"].n_unique() == 1500
    for row in sums.frame().head(50).to_dicts():
        assert str(total(row["question"])) == row["answer"]
        assert row["answer"] in row["options"]
        assert len(set(row["options"])) == 4

    def accuracy(name: str, votes: int, shuffle: bool, **knobs: float) -> float:
        part = {"use": "infer.prompting.ensemble", "of": few(examples=0, temperature=0.7), "votes": votes, "shuffle": shuffle}
        return value(measure(tmp_path / name, Partial(**knobs), part, sums, items=1500)[0])

    three = 3 * (0.25 / 1500) ** 0.5
    assert abs(accuracy("a", 1, False, first=2.0, noise=0.5) - 0.398) < three
    assert abs(accuracy("b", 9, True, first=2.0, noise=0.5) - 0.455) < three
    assert abs(accuracy("c", 1, False, first=0.0, noise=1.0) - 0.412) < three
    assert accuracy("d", 3, False, first=1.0, noise=0.0) == accuracy("e", 1, False, first=1.0, noise=0.0)


PORTFOLIO = {"use": "infer.prompting.portfolio", "chains": few(examples=0, chains=True), "direct": few(examples=0)}


def two_minds(question: Question, sampling: Sampling) -> str:
    """Right when it reasons and wrong when it does not; needs a scratch-pad for even cases, not for odd ones, and does not say for fruit."""
    prompt = str(question.prompt)
    if "scratch-pad" in prompt:
        number = int(prompt.split("case ")[1].split(" ")[0])
        return "it depends" if "a fruit" in prompt else ["A", "B"][number % 2]
    if "step by step" in prompt:
        return f"so it is Answer: [{right_letter(prompt)}]"
    return letter_for(prompt, "bird" if "a bird" not in asked_part(prompt) else "river")


@pytest.mark.parametrize(
    ("chains", "direct", "weight", "yes", "no", "unsaid"),
    [
        (5, 10, 2.0, 1.0, 0.0, 0.0),  # 10 to 10: of equals what a chain named first; 2.5 to 10; 5 to 10
        (2, 3, 2.0, 1.0, 0.0, 0.0),  # 4 to 3; 1 to 3; 2 to 3
        (3, 2, 2.0, 1.0, 0.0, 1.0),  # 6 to 2; 1.5 to 2; 3 to 2
        (3, 1, 2.0, 1.0, 1.0, 1.0),  # 6 to 1; 1.5 to 1; 3 to 1
        (1, 2, 1.0, 0.0, 0.0, 0.0),  # 1 to 2, and nothing is screened
    ],
)
def test_chains_count_for_more_where_a_scratch_pad_is_needed(
    tmp_path: Path, chains: int, direct: int, weight: float, yes: float, no: float, unsaid: float
) -> None:
    part = {**PORTFOLIO, "chain_votes": chains, "direct_votes": direct, "weight": weight}
    scores, step = measure(tmp_path, scripted(two_minds), part, data(tmp_path / "asked", 16))
    items = scores.items()
    assert items is not None
    right = items.filter(metric="accuracy")["value"].to_list()
    for number, found in enumerate(right):  # fruit are the multiples of 4
        assert found == (unsaid if number % 4 == 0 else no if number % 2 else yes), number
    screened = [question for question, _ in ASKED if "scratch-pad" in str(question.prompt)]
    assert len(screened) == (0 if weight == 1 else 16)
    assert weight == 1 or step.facts["scratch_pads"] == 4 / 16
    assert len(ASKED) == 16 * (chains + direct) + len(screened), "every answer has an order of its own"


def test_a_portfolio_may_rank_its_screening_and_hold_ensembles(tmp_path: Path) -> None:
    def ranks(question: Question, sampling: Sampling) -> Any:
        if question.options:
            return [-1.0, -2.0] if "case 1 " in str(question.prompt) else [-2.0, -1.0]
        return two_minds(question, sampling)

    part = {**PORTFOLIO, "chain_votes": 2, "direct_votes": 3, "screening": "rank", "shuffle": False}
    scores, _ = measure(tmp_path / "1", scripted(ranks), part, data(tmp_path / "a", 4))
    assert value(scores) == 1 / 4
    assert len(ASKED) == 4 * 3, "in one order at temperature 0 all answers are the same, and asked for once"
    inner = {"use": "infer.prompting.ensemble", "of": few(examples=0, chains=True), "votes": 3}
    part = {**part, "chains": inner, "direct": few(examples=2, chains=True)}
    scores, _ = measure(tmp_path / "2", scripted(ranks), part, data(tmp_path / "b", 4), data(tmp_path / "k", 8, 100))
    assert value(scores) == 1.0, "both reason"
    items = scores.items()
    assert items is not None
    for metric in ("prompt_tokens", "completion_tokens"):
        assert items.filter(metric=metric)["value"].mean() == pytest.approx(value(scores, metric)), "chains of known items are shared"
