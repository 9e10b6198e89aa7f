"""A real server that does wrong on demand: what is tried again, what is not, what is believed, and what is never lost or paid for twice."""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from answering_server import Server, answer_to, logprob, pieces  # type: ignore[import-not-found]
from pydantic import ValidationError
from toy_runs import artifact_bytes, start, wait_for  # type: ignore[import-not-found]

from paredown.core.context import Context
from paredown.core.errors import DataError, MachineError, PareError, UserError
from paredown.engines.answer_store import STORE, Store
from paredown.engines.endpoints import retry_after
from paredown.engines.generator import Answer, Question, Sampling, opened
from paredown.infer.answerers.endpoint import Endpoint

HERE = Path(__file__).parent
KEY = "sk-very-secret-17"


def endpoint(server: Server, **knobs: Any) -> Endpoint:
    return Endpoint(**{"base_url": server.url, "model": "m", "backoff": 0.02, "timeout": 20.0, **knobs})


def ask(server: Server, prompts: Any, folder: Path, sampling: Sampling | None = None, **knobs: Any) -> tuple[list[Answer], Context]:
    folder.mkdir(exist_ok=True)
    step = Context(folder / "out", folder, shared=folder)
    with opened(endpoint(server, **knobs), step) as generator:
        return generator.answer([p if isinstance(p, Question) else Question(p) for p in prompts], sampling), step


def usage(step: Context) -> dict[str, Any]:
    (found,) = step.facts["answers"].values()
    return dict(found)


# --- asking


def test_a_request_says_what_is_asked_and_the_answer_what_it_took(tmp_path):
    chat = Question((("system", "be short"), ("user", "why?")), sample=2)
    sampling = Sampling(max_tokens=9, temperature=0.5, top_p=0.9, top_k=7, stop=("\n",), seed=3)
    with Server() as server:
        (greedy,), _ = ask(server, ["hello"], tmp_path)
        (drawn,), _ = ask(server, [chat], tmp_path, sampling)
        bodies = [seen["body"] for seen in server.seen]
        assert all("authorization" not in seen["headers"] for seen in server.seen)
    assert bodies[0] == {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 256, "temperature": 0.0}
    seed = bodies[1].pop("seed")
    assert 0 <= seed < 2**31
    assert bodies[1] == {
        "model": "m", "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "why?"}],
        "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "top_k": 7, "stop": ["\n"],
    }  # fmt: skip
    assert greedy.text == answer_to("hello")
    assert (greedy.prompt_tokens, greedy.completion_tokens, greedy.cached_tokens) == (len(pieces("hello")) + 5, len(pieces(greedy.text)), 2)
    assert greedy.seconds > 0
    assert not greedy.estimated
    assert drawn.text == answer_to("be short\nwhy?", seed).partition("\n")[0]


def test_plain_completions_and_fields_of_ones_own(tmp_path):
    with Server() as server:
        (answer,), _ = ask(
            server, ["go on"], tmp_path, api="completions", extra={"user": "me", "temperature": None}, limit_field="max_completion_tokens"
        )
        (body,) = [seen["body"] for seen in server.seen]
        assert body == {"model": "m", "prompt": "go on", "max_completion_tokens": 256, "user": "me"}
        assert (answer.text, answer.finish) == (answer_to("go on"), "length")
        with pytest.raises(UserError, match="a chat cannot be asked of plain completions"):
            ask(server, [Question((("user", "a"),))], tmp_path, api="completions")


def test_what_answers_is_part_of_the_key_and_how_fast_it_is_asked_is_not(tmp_path):
    with Server() as server:
        ask(server, ["a"], tmp_path)
        ask(server, ["a"], tmp_path, concurrency=3, retries=0, timeout=9.0, prices={"prompt": 1, "completion": 2})
        assert len(server.seen) == 1
        for knobs in ({"model": "n"}, {"version": "2"}, {"extra": {"x": 1}}, {"api": "completions"}):
            ask(server, ["a"], tmp_path, **knobs)
        assert len(server.seen) == 5
        first = endpoint(server, base_url=f"{server.url}/").base_url
        assert first == server.url


def test_money_is_counted_from_the_price_table_stored_or_not(tmp_path):
    prices = {"prompt": 1000.0, "completion": 2000.0, "cached": 100.0, "currency": "EUR"}
    with Server() as server:
        (answer,), step = ask(server, ["a"], tmp_path, prices=prices)
        _, again = ask(server, ["a", "a"], tmp_path, prices=prices)
        _, unpriced = ask(server, ["a"], tmp_path)
    read, wrote = answer.prompt_tokens, answer.completion_tokens
    assert step.cost.money == pytest.approx(((read - 2) * 1000 + 2 * 100 + wrote * 2000) / 1e6)
    assert step.cost == again.cost
    assert usage(again)["money_now"] == 0
    assert usage(step)["money_now"] == step.cost.money
    assert step.cost.currency == "EUR"
    assert unpriced.cost.money is None
    assert unpriced.cost.tokens == read + wrote


def test_never_more_requests_at_once_than_allowed(tmp_path):
    with Server(latency=0.05) as server:
        ask(server, [str(n) for n in range(20)], tmp_path, concurrency=4)
        assert server.most_at_once == 4


# --- trouble


@pytest.mark.parametrize("fault", ["500", "503", "429", "drop", "cut", "truncated", "malformed", "empty", "429:0.05", "429 date:1"])
def test_what_fails_for_a_while_is_tried_again(fault, tmp_path):
    with Server(faults=[fault, "ok", fault, fault]) as server:
        answers, step = ask(server, ["a", "b", "c"], tmp_path, concurrency=1)
        assert [a.text for a in answers] == [answer_to(p) for p in "abc"]
        assert len(server.seen) == 6
        assert set(server.paid.values()) == {1}
    assert usage(step)["retries"] == 3


def test_a_slow_answer_is_given_up_whether_it_hangs_or_drips(tmp_path):
    with Server(faults=["slow:20", "drip:0.05"]) as server:
        begun = time.monotonic()
        (answer,), _ = ask(server, ["a"], tmp_path, timeout=0.4)
        assert answer.text == answer_to("a")
        assert len(server.seen) == 3
        assert time.monotonic() - begun < 10
        server.faults = ["slow:20", "slow:20"]
        with pytest.raises(DataError, match=r"no usable answer in 2 tries; the last time there was no answer within 0.4 s"):
            ask(server, ["b"], tmp_path, timeout=0.4, retries=1)


@pytest.mark.parametrize(("fault", "least"), [("429:0.6", 0.6), ("429 date:2", 1.0)])
def test_nobody_asks_before_the_server_allows_it(fault, least, tmp_path):
    """Dates are whole seconds, so a date two seconds ahead may be little more than one away."""
    with Server(faults=[fault]) as server:
        ask(server, [str(n) for n in range(12)], tmp_path, concurrency=3, backoff=0.001)
        first, *others = (seen["at"] for seen in server.seen)
        at_once = [at for at in others if at < first + least]
        assert len(at_once) <= 2 + 2, "what was on its way when the server said so, and what it let go through"
        assert max(others) - first >= least


def test_a_wait_that_is_too_long_stops_at_once(tmp_path):
    with (
        Server(faults=["429:3600"]) as server,
        pytest.raises(DataError, match=r"wants 3,600 s without a request; longest_wait allows 300 s"),
    ):
        ask(server, ["a"], tmp_path)


def test_waits_by_their_headers():
    now = 1_700_000_000.0
    assert retry_after({}, now) is None
    assert retry_after({"retry-after": "7"}, now) == 7
    assert retry_after({"retry-after": "1.5"}, now) == 1.5
    assert retry_after({"retry-after": "-3"}, now) == 0
    assert retry_after({"retry-after": "9", "retry-after-ms": "250"}, now) == 0.25
    assert retry_after({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT"}, now) == 10
    assert retry_after({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT", "date": "Tue, 14 Nov 2023 22:13:27 GMT"}, now) == 3
    assert retry_after({"retry-after": "Tue, 14 Nov 2023 22:13:00 GMT"}, now) == 0
    assert retry_after({"retry-after": "soon"}, now) is None
    assert retry_after({"retry-after": "nan"}, now) is None


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        ("401", UserError, r"refuses requests without a key \(401\)"),
        ("400", UserError, r"refuses a question \(400\)"),
        ("402", MachineError, r"wants money first \(402\)"),
        ("quota", MachineError, r"wants money first \(429\): pay first"),
        ("404", UserError, r"no such address or model \(404\)"),
    ],
)
def test_what_will_not_get_better_stops_at_once_and_keeps_the_rest(fault, kind, text, tmp_path):
    with Server(faults=["ok", "ok", fault]) as server:
        with pytest.raises(kind, match=text) as caught:
            ask(server, [str(n) for n in range(9)], tmp_path, concurrency=1)
        assert caught.value.kept == "2 of 9 answers, which are not asked for again"
        assert len(server.seen) == 3
        ask(server, [str(n) for n in range(9)], tmp_path)
        assert set(server.paid.values()) == {1}


def test_what_is_on_its_way_when_another_fails_is_kept(tmp_path):
    with Server(faults=["slow:0.3", "slow:0.3", "400"]) as server:
        with pytest.raises(UserError) as caught:
            ask(server, [str(n) for n in range(9)], tmp_path, concurrency=3)
        assert caught.value.kept.startswith("2 of 9 answers")
        assert len(server.seen) == 3


def test_no_server_at_all(tmp_path):
    with Server() as server:
        pass
    with pytest.raises(DataError, match=r"no usable answer in 3 tries; the last time the connection failed") as caught:
        ask(server, ["a"], tmp_path, retries=2)
    assert "Traceback" not in str(caught.value)


# --- the key


def test_a_key_comes_from_the_environment_and_stands_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-server")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    with Server(key=KEY) as server:
        answers, step = ask(server, ["a"], tmp_path, key_variable="MY_KEY")
        assert answers[0].text == answer_to("a")
        assert not any("organization" in name for name in server.seen[0]["headers"])
        assert KEY not in json.dumps([step.facts, endpoint(server, key_variable="MY_KEY").spec()])
        server.faults = ["400"]
        with pytest.raises(UserError) as caught:  # the server repeats it
            ask(server, ["b"], tmp_path, key_variable="MY_KEY")
        assert "no: Bearer ***" in str(caught.value)
        server.key = "another"
        with pytest.raises(UserError, match="refuses the key") as caught:
            ask(server, ["b"], tmp_path, key_variable="MY_KEY")
        assert "environment variable MY_KEY" in str(caught.value)
        assert KEY not in str(caught.value)
        with pytest.raises(UserError, match="without a key"):
            ask(server, ["b"], tmp_path)
        assert "authorization" not in server.seen[-1]["headers"], "another server's key stays here"
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_key_that_is_none(tmp_path, monkeypatch):
    with Server() as server:
        monkeypatch.delenv("MY_KEY", raising=False)
        with pytest.raises(UserError, match="MY_KEY holds no key"):
            ask(server, ["a"], tmp_path, key_variable="MY_KEY")
        monkeypatch.setenv("MY_KEY", "schlüssel")
        with pytest.raises(UserError, match="cannot be a key") as caught:
            ask(server, ["a"], tmp_path, key_variable="MY_KEY")
        assert "schl" not in str(caught.value)
        assert not server.seen
        server.faults = []
        ask(server, ["b"], tmp_path)
        ask(server, ["b"], tmp_path, key_variable="NOBODY_SET_THIS")  # what is stored takes no key


@pytest.mark.parametrize("url", ["https://me:secret@host/v1", "https://host/v1?key=secret", "host/v1", "ftp://host"])
def test_an_address_holds_no_secret(url):
    with pytest.raises(ValidationError, match="an address"):
        Endpoint(base_url=url, model="m")


# --- what is believed


@pytest.mark.parametrize("fault", ["no counts", "wrong counts"])
def test_token_counts_that_cannot_be_true_are_estimated_and_counted_as_such(fault, tmp_path):
    prompt = "x" * 400
    with Server(faults=[fault]) as server:
        (answer,), step = ask(server, [prompt], tmp_path, prices={"prompt": 1e6, "completion": 1e6})
        (again,), later = ask(server, [prompt], tmp_path, prices={"prompt": 1e6, "completion": 1e6})
        assert len(server.seen) == 1
    assert answer.estimated
    assert again == answer
    assert answer.prompt_tokens == 100
    assert answer.completion_tokens == -(-len(answer.text) // 4)
    assert usage(step)["estimated"] == usage(later)["estimated"] == 1
    assert step.cost.money == 100 + answer.completion_tokens


def test_a_stop_text_ends_the_answer_whatever_the_server_does(tmp_path):
    with Server() as server:
        (answer,), _ = ask(server, ["a"], tmp_path, Sampling(stop=(" to",)))
    assert answer.text == answer_to("a").partition(" to")[0]
    assert answer.finish == "stop"


# --- options


def options_by_hand(prompt: str, option: str) -> tuple[float, int]:
    """Sum over the option's tokens, where the prompt's end is the end of a token."""
    tokens, before, total, count = pieces(prompt + option), "", 0.0, 0
    for token in tokens:
        if len(before) >= len(prompt):
            total, count = total + logprob(before, token), count + 1
        before += token
    return total, count


@pytest.mark.parametrize("mark", ["", "<s>"])
def test_options_are_scored_by_the_text_that_the_server_repeats(mark, tmp_path):
    options = (" yes", " no, not now", "!")
    with Server(mark=mark) as server:
        (answer,), step = ask(server, [Question("is it so?", options=options)], tmp_path, api="completions")
        assert server.seen[0]["body"] == {
            "model": "m", "prompt": [f"is it so?{o}" for o in options], "max_tokens": 0, "logprobs": 1, "echo": True, "temperature": 0.0,
        }  # fmt: skip
    if not mark:
        wanted = [options_by_hand("is it so?", option) for option in options]
        assert answer.logprobs == pytest.approx([value for value, _ in wanted])
        assert answer.option_tokens == tuple(count for _, count in wanted)
    assert all(value < 0 for value in answer.logprobs)
    assert answer.prompt_tokens == sum(len(pieces(f"is it so?{o}")) for o in options)
    assert answer.completion_tokens == 0
    assert step.cost.tokens == answer.prompt_tokens


def test_a_token_across_the_border_counts_for_every_option(tmp_path):
    """`ab` + `cd` is one token, `ab` + ` cd` are two: the first must not hide what it costs to say `ab`."""
    with Server() as server:
        (answer,), _ = ask(server, [Question("x ab", options=("cd", " cd"))], tmp_path, api="completions")
    assert pieces("x abcd") == ["x", " abcd"]
    assert pieces("x ab cd") == ["x", " ab", " cd"]
    assert answer.logprobs == pytest.approx((logprob("x", " abcd"), logprob("x", " ab") + logprob("x ab", " cd")))
    assert answer.option_tokens == (1, 2)


def test_options_of_a_chat_are_looked_up_among_its_likeliest_tokens(tmp_path):
    with Server() as server:
        (answer,), _ = ask(server, [Question("pick", options=("C", "A"))], tmp_path)
        assert answer.logprobs == (logprob("pick", "C"), logprob("pick", "A"))
        with pytest.raises(UserError, match="'Z' is not among the 7 likeliest"):
            ask(server, [Question("pick", options=("A", "Z"))], tmp_path)


def test_a_server_without_log_probabilities_is_told_apart(tmp_path):
    with Server(repeats=False) as server, pytest.raises(UserError, match="does not give the log-probabilities of options") as caught:
        ask(server, [Question("a", options=("b", "c"))], tmp_path, api="completions")
    assert len(server.seen) == 1, "asking again would change nothing"
    assert "vLLM" in caught.value.todo


# --- stopping


def test_ctrl_c_waits_for_what_is_on_its_way_and_loses_no_paid_answer(tmp_path):
    prompts = [str(n) for n in range(40)]
    with Server(latency=0.3) as server:
        threading.Timer(0.75, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            ask(server, prompts, tmp_path, concurrency=4)
        paid = sum(server.paid.values())
        assert paid == len(server.seen) < 40, "none was cut off"
        server.latency = 0.0
        answers, step = ask(server, prompts, tmp_path)
        assert usage(step)["stored"] == paid
        assert [a.text for a in answers] == [answer_to(p) for p in prompts]
        assert set(server.paid.values()) == {1}


def test_ctrl_c_while_it_waits_to_try_again_stops_at_once(tmp_path):
    with Server(faults=["429:100"] * 9) as server:
        threading.Timer(0.5, _thread.interrupt_main).start()
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            ask(server, list("abc"), tmp_path)
        assert time.monotonic() - begun < 5


def test_nothing_more_is_asked_before_what_was_answered_is_stored(tmp_path):
    """However slow the disk is: otherwise a kill would lose more than what is under way."""
    asked_meanwhile = []

    def block(server):
        while not server.seen:
            time.sleep(0.005)
        with contextlib.closing(sqlite3.connect(tmp_path / STORE, isolation_level=None)) as other:
            other.execute("begin immediate")
            before = len(server.seen)
            time.sleep(1.0)
            asked_meanwhile.append(len(server.seen) - before)
            other.execute("commit")

    with Server(latency=0.1) as server:
        thread = threading.Thread(target=block, args=(server,))
        thread.start()
        answers, _ = ask(server, [str(n) for n in range(60)], tmp_path, concurrency=3)
        thread.join()
    assert asked_meanwhile[0] <= 3, "it would be about 30"
    assert [a.text for a in answers] == [answer_to(str(n)) for n in range(60)]


@pytest.fixture
def process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server as a process of its own, with its address."""
    command = [sys.executable, str(HERE / "answering_server.py"), "--latency", "0.1"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    yield server, f"http://127.0.0.1:{int(server.stdout.readline())}"
    server.communicate("")


def counts(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/counts") as answer:
        return dict(json.load(answer))


def recipe(url: str, many: int) -> str:
    answerer = {"use": "infer.answerers.endpoint", "base_url": f"{url}/v1", "model": "m", "concurrency": 4}
    return json.dumps(
        {"steps": {"said": {"use": "infer.generate", "prompts": [f"question {n}" for n in range(many)], "answerer": answerer}}}
    )


def started(folder: Path, url: str) -> subprocess.Popen[str]:
    """A run of the recipe that has been answered 30 times."""
    run: subprocess.Popen[str] = start(folder, "run", "r.yaml")
    wait_for(run, folder, ".paredown/answers.sqlite")
    deadline = time.monotonic() + 60
    while sum(counts(url)["paid"].values()) < 30:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return run


def test_a_stopped_program_says_how_to_go_on_and_has_stored_all_that_was_paid(process, tmp_path):
    _, url = process
    (tmp_path / "r.yaml").write_text(recipe(url, 200))
    run = started(tmp_path, url)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, out + err
    assert "goes on from here" in out
    assert "Traceback" not in out + err
    with Store(tmp_path / ".paredown" / STORE) as store:
        ((_, stored, _),) = store.contents()
    paid = counts(url)["paid"]
    assert stored == sum(paid.values()) == len(paid) < 200


def test_a_killed_run_goes_on_with_the_same_bytes_and_pays_for_no_answer_twice(process, tmp_path):
    _, url = process
    many = 120
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "r.yaml").write_text(recipe(url, many))
    run = started(tmp_path / "killed", url)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    time.sleep(0.3)  # what was in flight is paid for, too
    before = counts(url)["paid"]
    assert 30 <= len(before) < many
    again = start(tmp_path / "killed", "run", "r.yaml")
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, out + err
    after = counts(url)["paid"]
    assert len(after) == many
    assert sum(after.values()) - many <= 4, "beyond what was in flight at the kill"
    other = start(tmp_path / "whole", "run", "r.yaml")
    out, err = other.communicate(timeout=120)
    assert other.returncode == 0, out + err
    assert artifact_bytes(tmp_path / "killed" / ".paredown") == artifact_bytes(tmp_path / "whole" / ".paredown")


def test_errors_of_many_kinds_are_paredowns_own(tmp_path):
    """Whatever the server does wrong for good, no foreign exception comes through."""
    for fault in ("drop", "cut", "truncated", "malformed", "empty", "500", "429"):
        with Server(faults=[fault] * 5) as server, pytest.raises(PareError, match="no usable answer in 2 tries") as caught:
            ask(server, ["a"], tmp_path, retries=1)
        assert not caught.value.kept
