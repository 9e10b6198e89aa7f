"""Asking: the same question is asked once, by however many calls, steps and processes; costs do not depend on what was stored."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models as tiny
import torch

from paredown.core.catalog import build
from paredown.core.context import Context
from paredown.core.errors import DataError, UserError
from paredown.engines import answer_store
from paredown.engines.answer_store import STORE, Store
from paredown.engines.generator import Answer, Question, Sampling, answer_key, cut_at_stop, opened
from paredown.engines.local_answers import LocalModel, shared
from paredown.engines.parts import Answerer
from paredown.infer.answerers.local import Local


class Echo:
    """Answers with the prompt in capitals, and counts what it was asked."""

    identity = "echo"
    currency = "EUR"

    def __init__(self, lose: str = "") -> None:
        self.asked: list[Question] = []
        self.lose = lose

    def ask(self, questions, sampling, tray):
        for number, question in enumerate(questions):
            if question.prompt == self.lose:
                raise DataError("lost", where="echo")
            self.asked.append(question)
            tray.put(
                [(number, Answer(text=str(question.prompt).upper(), prompt_tokens=3, completion_tokens=2, cached_tokens=1, seconds=0.5))]
            )
            tray.report()

    def price(self, answer):
        return 0.01 * answer.prompt_tokens + 0.1 * answer.completion_tokens

    def close(self):
        pass


class Fixed(Answerer):
    def open(self):
        return BACKENDS[-1]


BACKENDS: list[Echo] = []


@pytest.fixture
def echo() -> Echo:
    BACKENDS.append(Echo())
    return BACKENDS[-1]


def step(folder: Path, name: str = "a") -> Context:
    (folder / name).mkdir(exist_ok=True)
    return Context(folder / name / "out", folder / name, shared=folder)


def test_in_order_once_each_and_charged_as_if_nothing_were_stored(echo, tmp_path):
    questions = [Question("b"), Question("a"), Question("b"), Question((("user", "b"),))]
    first, second = step(tmp_path, "one"), step(tmp_path, "two")
    with opened(Fixed(), first) as generator:
        answers = generator.answer(questions)
        assert [a.text for a in answers[:3]] == ["B", "A", "B"]
        assert len(echo.asked) == 3
        assert generator.answer(questions[:1]) == answers[:1]
    with opened(Fixed(), second) as generator:
        assert generator.answer(questions) == answers
        usage = generator.usage
    assert len(echo.asked) == 3
    assert first.cost == second.cost
    assert first.cost.tokens == 3 * 5
    assert first.cost.money == pytest.approx(3 * 0.23)
    assert first.cost.currency == "EUR"
    assert (usage.questions, usage.distinct, usage.stored) == (4, 3, 3)
    assert usage.money_now == 0
    assert usage.tokens_now == 0
    now = first.facts["answers"]["echo"]
    assert (now["questions"], now["distinct"], now["stored"], now["tokens_now"]) == (5, 3, 0, 15)
    assert now["money_now"] == pytest.approx(now["money"]) == pytest.approx(0.69)


def test_what_is_part_of_a_key():
    plain, greedy = Question("a"), Sampling()
    drawn = Sampling(temperature=1.0)
    same = answer_key("x", plain, greedy)
    assert same == answer_key("x", Question("a", sample=3), replace(greedy, seed=7, top_k=5, top_p=0.5)), "nothing is drawn"
    differing = [
        answer_key("y", plain, greedy),
        answer_key("x", Question("b"), greedy),
        answer_key("x", Question((("user", "a"),)), greedy),
        answer_key("x", Question((("system", "a"),)), greedy),
        answer_key("x", plain, Sampling(max_tokens=5)),
        answer_key("x", plain, Sampling(stop=("\n",))),
        answer_key("x", Question("a", options=("b",)), greedy),
        answer_key("x", plain, drawn),
        answer_key("x", Question("a", sample=1), drawn),
        answer_key("x", plain, replace(drawn, seed=1)),
        answer_key("x", plain, replace(drawn, top_k=1)),
        answer_key("x", plain, replace(drawn, top_p=0.9)),
    ]
    assert len({same, *differing}) == 13
    options = Question("a", options=("b", "c"))
    assert answer_key("x", options, greedy) == answer_key("x", options, Sampling(max_tokens=3, temperature=2.0, seed=4, stop=("x",)))
    with pytest.raises(DataError, match="cannot be asked"):
        answer_key("x", Question("\ud800"), greedy)


def test_what_was_answered_before_a_failure_is_kept_and_charged(tmp_path):
    BACKENDS.append(Echo(lose="c"))
    one = step(tmp_path)
    with opened(Fixed(), one) as generator, pytest.raises(DataError, match="lost"):
        generator.answer([Question(p) for p in "abcd"])
    assert one.cost.tokens == 10
    BACKENDS.append(Echo())
    with opened(Fixed(), step(tmp_path, "b")) as generator:
        assert [a.text for a in generator.answer([Question(p) for p in "abcd"])] == list("ABCD")
    assert [q.prompt for q in BACKENDS[-1].asked] == ["c", "d"]


def test_prices_of_one_step_are_in_one_currency(tmp_path):
    one = step(tmp_path)
    one.charge(money=1.0, currency="EUR")
    one.charge(money=0.5, currency="EUR")
    assert one.cost.money == 1.5
    with pytest.raises(UserError, match="two currencies, EUR and USD"):
        one.charge(money=1.0, currency="USD")


def test_who_put_an_answer_hears_when_others_can_read_it(tmp_path):
    heard = threading.Event()
    with Store(tmp_path / STORE) as store, Store(tmp_path / STORE) as other:
        store.put([(b"a", {"text": "x"})], "x", heard.set)
        assert heard.wait(10)
        assert other.find([b"a"]) == {b"a": {"text": "x"}}
        store.put([(b"b", {"text": "y"})], "x", lambda: (_ for _ in ()).throw(RuntimeError("gone")))
        store.flush()
        assert set(other.find([b"a", b"b"])) == {b"a", b"b"}


def test_an_answer_is_on_the_disk_a_moment_after_it_arrived_whole_batches_only(tmp_path):
    code = (
        "import sys, os, signal, time; from pathlib import Path; from paredown.engines.answer_store import Store\n"
        f"store = Store(Path({str(tmp_path / STORE)!r}))\n"
        "with store.claimed([bytes([i]) for i in range(100)]) as mine:\n"
        "    for i in range(0, 50, 2): store.put([(bytes([i]), {'text': 'é'}), (bytes([i + 1]), {'logprobs': (1.5,)})], 'x')\n"
        "    time.sleep(0.05); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, check=False)
    assert done.returncode == -9
    with Store(tmp_path / STORE) as store:
        found = store.find([bytes([i]) for i in range(100)])
        assert sorted(found) == [bytes([i]) for i in range(50)]
        assert found[b"\0"] == {"text": "é"}
        assert found[b"\1"] == {"logprobs": (1.5,)}
        assert store.contents() == [("x", 50, 25 * len(b'{"text":"\xc3\xa9"}') + 25 * len(b'{"logprobs":[1.5]}'))]
        with store.claimed([bytes([60])]) as mine:
            assert mine == {bytes([60])}, "claims of a process that was killed are void"


def test_two_that_ask_the_same_at_once_ask_it_once(echo, tmp_path, monkeypatch):
    """Processes, played by two stores of two names."""
    monkeypatch.setattr(answer_store, "_alive", lambda process: True)
    names = iter(("one", "two"))
    monkeypatch.setattr(answer_store, "_process", lambda number: next(names))
    begun, go = threading.Event(), threading.Event()

    def slow(questions, sampling, tray, ask=echo.ask):
        begun.set()
        assert go.wait(10)
        ask(questions, sampling, tray)

    echo.ask = slow
    found = {}

    def ask(name, prompts):
        with opened(Fixed(), step(tmp_path, name)) as generator:
            found[name] = [a.text for a in generator.answer([Question(p) for p in prompts])]

    first = threading.Thread(target=ask, args=("x", "ab"))
    first.start()
    assert begun.wait(10)
    second = threading.Thread(target=ask, args=("y", "bc"))
    second.start()
    time.sleep(0.1)
    go.set()
    first.join(20)
    second.join(20)
    assert found == {"x": ["A", "B"], "y": ["B", "C"]}
    assert sorted(q.prompt for q in echo.asked) == ["a", "b", "c"]


def test_a_damaged_store_says_so(tmp_path):
    (tmp_path / STORE).write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match="stored answers are damaged"):
        Store(tmp_path / STORE)


# --- a local model


@pytest.fixture
def model(tmp_path):
    return tiny.model(tmp_path / "m" / "model")


def test_options_equal_a_sum_over_single_readings(model, tmp_path):
    """Each option alone, without a batch, token by token."""
    with opened(model, step(tmp_path)) as generator:
        (answer,) = generator.answer([Question("def f(", options=("x):", " y, zzz", "漢"))])
    module, tokenizer = model.load(), model.tokenizer
    prompt = [0, *tokenizer("def f(")["input_ids"]]
    for option, said, tokens in zip(("x):", " y, zzz", "漢"), answer.logprobs, answer.option_tokens, strict=True):
        ids = tokenizer(option)["input_ids"]
        assert tokens == len(ids)
        total, so_far = 0.0, list(prompt)
        for wanted in ids:
            with torch.inference_mode():
                total += float(module(torch.tensor([so_far])).logits[0, -1].log_softmax(-1)[wanted])
            so_far.append(wanted)
        assert said == pytest.approx(total, abs=1e-4)
    assert all(p < 0 for p in answer.logprobs)
    assert answer.flops > 0


def test_options_of_one_token_are_a_distribution(model, tmp_path):
    tokenizer = model.tokenizer
    every = tuple(t for t in (tokenizer.decode([i]) for i in range(1, 257)) if t and "\ufffd" not in t)
    with opened(model, step(tmp_path)) as generator:
        (answer,) = generator.answer([Question("x = ", options=every)])
    assert len(every) > 120
    assert 0 < sum(map(math.exp, answer.logprobs)) < 1
    assert set(answer.option_tokens) == {1}


def test_a_long_prompt_loses_its_beginning_the_same_for_all_options(model, tmp_path):
    with opened(model, step(tmp_path)) as generator:
        (answer,) = generator.answer([Question("y" * 300 + "ab", options=("c", "cd"))])
        (short,) = generator.answer([Question("y" * 60 + "ab", options=("c", "cd"))])
        assert answer.cut_tokens == 303 + 2 - 65
        assert short.cut_tokens == 0
        with pytest.raises(UserError, match="longer than the model's context"):
            generator.answer([Question("a", options=("y" * 80, "b"))])
        with pytest.raises(UserError, match="an option is empty"):
            generator.answer([Question("a", options=("", "b"))])


def test_stop_texts_end_an_answer_before_them(model, tmp_path):
    sampling = Sampling(max_tokens=30, temperature=1.0, seed=1)
    with opened(model, step(tmp_path)) as generator:
        (whole,) = generator.answer([Question("a")], sampling)
        stop = whole.text[5:7]
        first = whole.text.index(stop)
        (cut,) = generator.answer([Question("a")], replace(sampling, stop=("not there", stop)))
    assert cut.text == whole.text[:first]
    assert cut.finish == "stop"
    assert cut.completion_tokens < whole.completion_tokens


def test_nothing_is_loaded_where_all_is_stored(model, tmp_path, monkeypatch):
    with opened(model, step(tmp_path)) as generator:
        first = generator.answer([Question("a"), Question("b", options=("c",))], Sampling(max_tokens=4))
    monkeypatch.setattr(type(model), "load", lambda *_: pytest.fail("loaded"))
    with opened(model, step(tmp_path)) as generator:
        assert generator.answer([Question("a"), Question("b", options=("c",))], Sampling(max_tokens=4)) == first


def test_a_local_model_is_known_by_its_content(model, tmp_path):
    shutil.copytree(model.path, tmp_path / "copy")
    copy = type(model)(tmp_path / "copy")
    assert LocalModel(copy).identity == LocalModel(model).identity
    (copy.path / "config.json").write_text((copy.path / "config.json").read_text() + "\n")
    assert LocalModel(copy).identity != LocalModel(model).identity
    assert LocalModel(model, precision="bfloat16").identity != LocalModel(model).identity
    assert LocalModel(model, batch_tokens=5).identity == LocalModel(model).identity


def test_a_chat_without_a_template_is_read_one_after_the_other(model, tmp_path):
    chat = Question((("system", "be"), ("user", "short")))
    with opened(model, step(tmp_path)) as generator:
        one, two = generator.answer([chat, Question("be\n\nshort")], Sampling(max_tokens=5))
    assert one.text == two.text


def test_cutting_and_sharing():
    assert cut_at_stop("abcabc", ("ca", "b")) == "a"
    assert cut_at_stop("abc", ("x", "")) is None
    assert shared([1, 2, 3], [1, 2, 4], [1, 2]) == 2
    assert shared([1], [2]) == 0


@pytest.mark.parametrize("how", ["prepack", "pad_batch", "length_sorted", "one_by_one"])
def test_many_questions_with_options_are_read_together_and_scored_alone(model, tmp_path, how):
    """Whatever goes through the model together, each option has the probability that it has alone; what is shared is read once."""
    questions = [Question(prompt, options=options) for prompt, options in (
        ("once upon a time there was a", (" cat", " dog", " dog house")), ("x", ("y", "zz")), ("once upon a time", (" there", " is")),
    )]  # fmt: skip
    with opened(Local(model=model, prefill=build(f"infer.{how}"), batch_tokens=40), step(tmp_path)) as generator:
        together = generator.answer(questions)
    (tmp_path / "alone").mkdir()
    with opened(Local(model=model, prefill=build("infer.one_by_one")), step(tmp_path / "alone")) as generator:
        for question, answer in zip(questions, together, strict=True):
            assert answer.logprobs == pytest.approx(generator.answer([question])[0].logprobs, abs=1e-4)
    first = together[0]
    begin = 1 + len("once upon a time there was a ")  # of all three; what two of them share behind it is too short to be worth it
    assert first.prompt_tokens == 3 * begin + 2 + 2 + 8  # the last token of each is only predicted
    assert first.cached_tokens == 2 * begin
    assert first.option_tokens == (4, 4, 10)
    assert together[1].cached_tokens == 0
